#include "client/session/region_mapping.h"

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace tenure {

absl::StatusOr<Mapping> MapRegion(cuda::Device& device, SessionStub& stub,
                                  const RegionSource& source) {
  if (source.kind == v1::MEMORY_KIND_CUDA_IPC) {
    TENURE_ASSIGN_OR_RETURN(const cuda::IpcHandle handle,
                            cuda::IpcHandle::FromBytes(source.ipc_handle));
    TENURE_ASSIGN_OR_RETURN(const cuda::DevicePointer base, device.Import(handle));
    return Mapping(base);
  }
  if (source.kind != v1::MEMORY_KIND_VMM_FD) {
    return absl::UnimplementedError(
        absl::StrCat("the daemon granted memory of kind ", static_cast<int>(source.kind),
                     ", which this client cannot map: it is older than the daemon"));
  }
  TENURE_ASSIGN_OR_RETURN(const UniqueFd fd, stub.RequestRegionFd(source.fd_request));
  TENURE_ASSIGN_OR_RETURN(const cuda::VmmMemory memory,
                          device.ImportVmm(fd.get(), source.size, source.access));
  // The descriptor is closed on return. The mapping alone keeps the memory, so a process does not
  // need an open descriptor for each region.
  return Mapping(memory);
}

}  // namespace tenure
