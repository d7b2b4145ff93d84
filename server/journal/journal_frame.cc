#include "server/journal/journal_frame.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include <isa-l/crc.h>

#include "common/check.h"

namespace tenure::server {
namespace {

constexpr size_t kLengthAt = 0;
constexpr size_t kPayloadCrcAt = 4;
constexpr size_t kSequenceAt = 8;
constexpr size_t kHeaderCrcAt = 16;

// Little-endian, whatever the host is. Compilers make one load or store of it.
template <typename T>
void Put(T value, char* to) {
  for (size_t i = 0; i < sizeof value; ++i) to[i] = static_cast<char>(value >> (8 * i) & 0xff);
}
template <typename T>
T Get(const char* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof value; ++i) {
    value |= static_cast<T>(static_cast<T>(static_cast<unsigned char>(from[i])) << (8 * i));
  }
  return value;
}

}  // namespace

uint32_t Crc32c(absl::string_view bytes) {
  TENURE_CHECK(bytes.size() <= kMaxRecordBytes);
  // The library only reads, so the const_cast is safe. It computes the polynomial alone; CRC32C
  // also inverts the value before and after.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~uint32_t{0});
}

absl::Status AppendFrame(uint64_t sequence, const journal::Record& record, std::string& out) {
  const size_t length = record.ByteSizeLong();
  if (length > kMaxRecordBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a record of ", length, " bytes does not go into the journal, which takes ",
                     kMaxRecordBytes, " at most"));
  }
  const size_t start = out.size();
  out.resize(start + kFrameHeaderBytes + length);
  char* const header = out.data() + start;
  char* const payload = header + kFrameHeaderBytes;
  record.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(payload));
  // The header last, because it has the checksum of the payload and then its own.
  Put(static_cast<uint32_t>(length), header + kLengthAt);
  Put(Crc32c({payload, length}), header + kPayloadCrcAt);
  Put(sequence, header + kSequenceAt);
  Put(Crc32c({header, kHeaderCrcAt}), header + kHeaderCrcAt);
  return absl::OkStatus();
}

Frame FirstFrame(absl::string_view bytes, uint64_t expected_sequence) {
  if (bytes.size() < kFrameHeaderBytes) return {Frame::Kind::kTorn, {}, {}};
  const auto damaged = [](absl::string_view fault) {
    return Frame{Frame::Kind::kDamaged, {}, fault};
  };
  // The header's checksum first: before it matches, the length may be of any value.
  const char* header = bytes.data();
  if (Crc32c({header, kHeaderCrcAt}) != Get<uint32_t>(header + kHeaderCrcAt))
    return damaged("its header does not match the header's checksum");
  if (Get<uint64_t>(header + kSequenceAt) != expected_sequence)
    return damaged("its sequence number is not the next one");
  const uint32_t length = Get<uint32_t>(header + kLengthAt);
  if (length > kMaxRecordBytes) return damaged("it is longer than any record may be");
  if (bytes.size() - kFrameHeaderBytes < length) return {Frame::Kind::kTorn, {}, {}};
  const absl::string_view payload = bytes.substr(kFrameHeaderBytes, length);
  if (Crc32c(payload) != Get<uint32_t>(header + kPayloadCrcAt))
    return damaged("its bytes do not match their checksum");
  return {Frame::Kind::kRecord, payload, {}};
}

}  // namespace tenure::server
