#include "client/session/region_mapping.h"

#include "absl/strings/str_cat.h"

#include "common/unique_fd.h"

namespace tenure {

absl::StatusOr<Mapping> MapRegion(cuda::Device& device, SessionStub& connection,
                                  const RegionSource& source) {
  if (source.kind == v1::MEMORY_KIND_CUDA_IPC) {
    const absl::StatusOr<cuda::IpcHandle> handle = cuda::IpcHandle::FromBytes(source.ipc_handle);
    if (!handle.ok()) return handle.status();
    const absl::StatusOr<cuda::DevicePointer> base = device.Import(*handle);
    if (!base.ok()) return base.status();
    return Mapping(*base);
  }
  if (source.kind != v1::MEMORY_KIND_VMM_FD) {
    return absl::UnimplementedError(
        absl::StrCat("the daemon granted memory of kind ", static_cast<int>(source.kind),
                     ", which this client cannot map: it is older than the daemon"));
  }
  // Needed for the mapping only, which keeps the memory by itself.
  const absl::StatusOr<UniqueFd> fd = connection.RequestRegionFd(source.ask);
  if (!fd.ok()) return fd.status();
  const absl::StatusOr<cuda::VmmMemory> memory =
      device.ImportVmm(fd->get(), source.size, source.access);
  if (!memory.ok()) return memory.status();
  return Mapping(*memory);
}

}  // namespace tenure
