// Parses the header of a safetensors file.
#ifndef CLIENT_WEIGHTS_SAFETENSORS_H_
#define CLIENT_WEIGHTS_SAFETENSORS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/bytes.h"

namespace tenure {

// A file begins with the length of its header, 8 bytes, little-endian; the header follows, JSON;
// and then the tensors' bytes to the end of the file.
// Source: https://huggingface.co/docs/safetensors, "Format".
inline constexpr Bytes kSafetensorsPrefix = Bytes(8);
// The format allows 100 MB. A segment has at most kMaxSegmentTensors = 8192 tensors, and 16 MiB are
// 2 KiB for the description of each.
inline constexpr Bytes kMaxSafetensorsHeader = MiB(16);

struct FileTensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  Bytes offset;  // from where the tensors' bytes begin
  Bytes size;
};

// The size of the header in a file of `file_size` bytes that begins with `prefix`.
// Errors: INVALID_ARGUMENT: it is larger than the file, or than kMaxSafetensorsHeader.
absl::StatusOr<Bytes> SafetensorsHeaderSize(
    const std::array<unsigned char, kSafetensorsPrefix.value()>& prefix, Bytes file_size);

// The tensors that a header describes, in order of their offsets. `data` is the number of bytes
// that follow the header. As the format demands, the tensors fill these bytes without gaps or
// overlaps, and if the dtype is known the size of a tensor is that of its shape.
// Errors: INVALID_ARGUMENT: the header breaks one of these rules, or is one that the format's own
// parser refuses. The message names the tensor.
absl::StatusOr<std::vector<FileTensor>> ParseSafetensorsHeader(absl::string_view header,
                                                               Bytes data);

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_SAFETENSORS_H_
