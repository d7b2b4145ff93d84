// Bytes of a fuzzer, read as choices.
#ifndef TESTS_FUZZ_CHOICES_H_
#define TESTS_FUZZ_CHOICES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include <google/protobuf/message.h>

namespace tenure::testing {

// After the last byte every choice is 0, so any bytes are a valid row of choices.
class Choices {
 public:
  explicit Choices(absl::Span<const uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  uint8_t Next();
  // The next byte says how many bytes after it are this part's own, so that a change within one
  // part leaves the meaning of the next as it is.
  Choices NextPart();
  // Small numbers, multiples of powers of two, and their neighbours.
  uint64_t NextNumber();

 private:
  absl::Span<const uint8_t> bytes_;
};

// The ids that a process was told.
struct KnownIds {
  std::vector<uint64_t> sessions;
  std::vector<uint64_t> allocations;
  std::vector<uint64_t> regions;
  std::vector<uint64_t> attachments;
};

// Fills the fields of a request in their order. An id is mostly one that the caller knows, the
// newest for choice 0; sometimes none; sometimes one that another process knows; sometimes one that
// differs from a real one in one bit: of another epoch, generation or slot. The names of segments
// are few, and digests mostly as long as they must be.
void Fill(google::protobuf::Message& request, absl::Span<const KnownIds> known, size_t caller,
          Choices& choices);

}  // namespace tenure::testing

#endif  // TESTS_FUZZ_CHOICES_H_
