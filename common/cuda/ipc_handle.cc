#include "common/cuda/ipc_handle.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace tenure::cuda {

absl::StatusOr<IpcHandle> IpcHandle::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("a CUDA IPC handle has ", kSize, " bytes, not ", bytes.size()));
  }
  IpcHandle handle;
  std::memcpy(handle.bytes_.data(), bytes.data(), kSize);
  return handle;
}

}  // namespace tenure::cuda
