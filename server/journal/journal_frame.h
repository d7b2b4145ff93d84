// The format of the journal's file: a magic, then records, each behind a header with its length.
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

// The first bytes of the file.
inline constexpr absl::string_view kJournalMagic("tenure\xffJ", 8);

// The header of a record, little-endian:
//   uint32 length          of the payload
//   uint32 payload_crc     CRC32C of the payload
//   uint64 sequence        1 for the file's first record, then one more each
//   uint32 header_crc      CRC32C of the sixteen bytes before
// The header has a checksum of its own, because only a correct length can tell a record that was
// cut short by the writer's death, which is harmless, from a damaged one.
inline constexpr size_t kFrameHeaderBytes = 20;
// The largest record, which bounds the memory of a reader. A segment of 100 000 tensors is smaller.
inline constexpr size_t kMaxRecordBytes = size_t{16} << 20;

uint32_t Crc32c(absl::string_view bytes);

// Appends the framed record to `out`. INVALID_ARGUMENT when it is larger than kMaxRecordBytes.
absl::Status AppendFrame(uint64_t sequence, const journal::Record& record, std::string& out);

// The frame at the beginning of some bytes.
struct Frame {
  enum class Kind : uint8_t {
    kRecord,
    // The bytes end inside the header, or inside the payload that a valid header announces. A
    // killed writer leaves such a frame.
    kTorn,
    // Anything else; `fault` describes it.
    kDamaged,
  };
  Kind kind = Kind::kDamaged;
  absl::string_view payload;  // kRecord: inside the bytes that were given
  absl::string_view fault;    // kDamaged
};

// Examines the frame that begins `bytes`. Never reads beyond them, whatever length they claim.
// REQUIRES: `bytes` is not empty.
Frame FirstFrame(absl::string_view bytes, uint64_t expected_sequence);

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_FRAME_H_
