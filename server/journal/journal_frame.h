// How the journal's records lie in a file: one after another behind a magic, each behind a header
// that says how long it is.
#ifndef SERVER_JOURNAL_JOURNAL_FRAME_H_
#define SERVER_JOURNAL_JOURNAL_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "tenure/journal/v1/journal.pb.h"

namespace tenure::server {

namespace journal = ::tenure::journal::v1;

// What a file begins with.
inline constexpr absl::string_view kJournalMagic("tenure\xffJ", 8);

// The header of a record, little-endian:
//   uint32 length          of the payload
//   uint32 payload_crc     CRC32C of the payload
//   uint64 sequence        1 for the file's first record, then one more each
//   uint32 header_crc      CRC32C of the sixteen bytes before
// The header has a checksum of its own, because the length decides whether a record was cut short
// by the writer's death, which is nothing bad, or is damaged.
inline constexpr size_t kFrameHeaderBytes = 20;
// The largest record; also what a reader will hold at once. A segment of 100 000 tensors stays
// below it.
inline constexpr size_t kMaxRecordBytes = size_t{16} << 20;

uint32_t Crc32c(absl::string_view bytes);

// Appends the framed record to `out`. INVALID_ARGUMENT when it is larger than kMaxRecordBytes.
absl::Status AppendFrame(uint64_t sequence, const journal::Record& record, std::string& out);

// What stands at the beginning of some bytes.
struct Frame {
  enum class Kind : uint8_t {
    kRecord,
    // The bytes end inside the header, or inside the payload that a valid header announces: what a
    // writer that was killed leaves behind.
    kTorn,
    // Anything else; `fault` says what.
    kDamaged,
  };
  Kind kind = Kind::kDamaged;
  absl::string_view payload;  // kRecord: inside the bytes that were given
  absl::string_view fault;    // kDamaged
};

// Looks at the frame that begins `bytes`, of which there is at least one. Reads no further than
// `bytes`, whatever they say.
Frame FirstFrame(absl::string_view bytes, uint64_t expected_sequence);

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_FRAME_H_
