// Maps a region into this process.
#ifndef CLIENT_SESSION_REGION_MAPPING_H_
#define CLIENT_SESSION_REGION_MAPPING_H_

#include <string>

#include "absl/status/statusor.h"

#include "client/session/region_cache.h"
#include "client/session/session_stub.h"
#include "common/bytes.h"
#include "common/cuda/device.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure {

// How the daemon describes a region that this process may map.
struct RegionSource {
  v1::MemoryKind kind = v1::MEMORY_KIND_UNSPECIFIED;
  Bytes size;
  std::string ipc_handle;                 // of CUDA_IPC
  v1::RequestRegionFdRequest fd_request;  // of VMM_FD: requests the descriptor
  // Of VMM_FD. The driver always maps CUDA_IPC for reading and writing.
  cuda::VmmAccess access = cuda::VmmAccess::kReadWrite;
};

// Opens the handle, or requests the descriptor and maps it. Makes driver calls: call it without a
// lock held.
// Errors: those of SessionStub::RequestRegionFd and of cuda::Device's Import and ImportVmm.
// UNIMPLEMENTED: a memory kind that this client does not know.
absl::StatusOr<Mapping> MapRegion(cuda::Device& device, SessionStub& stub,
                                  const RegionSource& source);

}  // namespace tenure

#endif  // CLIENT_SESSION_REGION_MAPPING_H_
