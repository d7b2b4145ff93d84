// What a safetensors file says of itself.
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
// The format allows 100 MB. A segment has at most 8192 tensors, which are described in 16 MiB many
// times over.
inline constexpr Bytes kMaxSafetensorsHeader = MiB(16);

struct FileTensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  Bytes offset;  // from where the tensors' bytes begin
  Bytes size;
};

// How long the header of a file of `file_size` bytes is that begins with `prefix`.
// Errors: INVALID_ARGUMENT: longer than the file, or than kMaxSafetensorsHeader.
absl::StatusOr<Bytes> SafetensorsHeaderSize(
    const std::array<unsigned char, kSafetensorsPrefix.value()>& prefix, Bytes file_size);

// The tensors that a header describes, in order of their offsets; `data` is how many bytes follow
// the header. They lie side by side and are all of the data, as the format demands; the size of
// each is that of its shape, where the dtype is a known one.
// Errors: INVALID_ARGUMENT: anything else. The message names the tensor.
absl::StatusOr<std::vector<FileTensor>> ParseSafetensorsHeader(absl::string_view header,
                                                               Bytes data);

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_SAFETENSORS_H_
