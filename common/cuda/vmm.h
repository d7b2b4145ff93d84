// Device memory that a file descriptor names.
#ifndef COMMON_CUDA_VMM_H_
#define COMMON_CUDA_VMM_H_

#include <cstdint>

#include "common/bytes.h"

namespace tenure::cuda {

// A piece of device memory, mapped in this process. It lives as long as any process has it mapped
// or holds a descriptor of it.
//
// Device::CreateVmm and Device::ImportVmm make it, Device::ReleaseVmm releases it.
struct VmmMemory {
  uint64_t handle = 0;  // cuda.h's CUmemGenericAllocationHandle; valid in this process only
  uint64_t base = 0;    // the DevicePointer where it is mapped
  Bytes size;
};

// Read-only protects against accidents only: an importer can give itself the right to write.
enum class VmmAccess { kRead, kReadWrite };

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_VMM_H_
