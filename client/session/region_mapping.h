// How a region becomes memory of this process.
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

// What the daemon said of a region.
struct RegionSource {
  v1::MemoryKind kind = v1::MEMORY_KIND_UNSPECIFIED;
  Bytes size;
  std::string ipc_handle;          // CUDA_IPC
  v1::RequestRegionFdRequest ask;  // VMM_FD: what its descriptor is asked for with
  // The driver grants CUDA_IPC reading and writing whatever is said here.
  cuda::VmmAccess access = cuda::VmmAccess::kReadWrite;
};

// Errors: those of SessionStub::RequestRegionFd and of cuda::Device's Import and ImportVmm;
// UNIMPLEMENTED: of a kind that this client does not know.
absl::StatusOr<Mapping> MapRegion(cuda::Device& device, SessionStub& connection,
                                  const RegionSource& source);

}  // namespace tenure

#endif  // CLIENT_SESSION_REGION_MAPPING_H_
