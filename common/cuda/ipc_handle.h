// The handle by which another process maps a region of kind CUDA_IPC.
#ifndef COMMON_CUDA_IPC_HANDLE_H_
#define COMMON_CUDA_IPC_HANDLE_H_

#include <array>
#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/export.h"

namespace tenure::cuda {

// The driver's 64 opaque bytes. Every process that knows them and may use the device can map the
// region, so they never appear in a message or a log.
//
// Thread safety: immutable value.
// Source: CU_IPC_HANDLE_SIZE in cuda.h.
class TENURE_EXPORT IpcHandle {
 public:
  static constexpr size_t kSize = 64;

  // All zero: opens nothing.
  IpcHandle() = default;
  // Errors: INVALID_ARGUMENT: not kSize bytes.
  static absl::StatusOr<IpcHandle> FromBytes(absl::string_view bytes);
  absl::string_view AsBytes() const { return absl::string_view(bytes_.data(), bytes_.size()); }

  bool operator==(const IpcHandle&) const = default;

 private:
  std::array<char, kSize> bytes_ = {};
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_IPC_HANDLE_H_
