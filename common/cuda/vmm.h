#ifndef COMMON_CUDA_VMM_H_
#define COMMON_CUDA_VMM_H_

#include <cstdint>

#include "common/bytes.h"

namespace tenure::cuda {

// A piece of device memory that a file descriptor names: mapped here, and shared with whoever gets
// the descriptor. It lives as long as anybody has it mapped or holds a descriptor of it.
//
// Made by Device::CreateVmm and Device::ImportVmm, and given back by Device::ReleaseVmm.
struct VmmMemory {
  uint64_t handle = 0;  // cuda.h's CUmemGenericAllocationHandle; of no use in another process
  uint64_t base = 0;    // the DevicePointer where it is mapped
  Bytes size;
};

// Read-only protects against accidents: an importer can give itself the right to write.
enum class VmmAccess { kRead, kReadWrite };

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_VMM_H_
