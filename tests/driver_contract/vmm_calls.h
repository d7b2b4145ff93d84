// The driver's calls for memory that file descriptors name, in the order that a mapping needs.
//
// Errors: the answer of the first call that fails; what was done before it stays.
#ifndef TESTS_DRIVER_CONTRACT_VMM_CALLS_H_
#define TESTS_DRIVER_CONTRACT_VMM_CALLS_H_

#include <cstdint>

#include "common/cuda/driver.h"
#include "common/unique_fd.h"

namespace tenure::testing {

struct VmmMapping {
  CUmemGenericAllocationHandle handle = 0;
  CUdeviceptr base = 0;
  uint64_t size = 0;
};

// Memory of device 0 that can be exported.
CUmemAllocationProp VmmProperties();

CUresult CreateVmm(const cuda::Driver& driver, uint64_t size, CUmemGenericAllocationHandle* handle);
CUresult ExportVmm(const cuda::Driver& driver, CUmemGenericAllocationHandle handle, UniqueFd* fd);
CUresult ImportVmm(const cuda::Driver& driver, int fd, CUmemGenericAllocationHandle* handle);

// Reserves addresses and maps what mapping.handle names, for reading and writing.
CUresult MapVmm(const cuda::Driver& driver, VmmMapping* mapping);
CUresult SetVmmAccess(const cuda::Driver& driver, CUdeviceptr base, uint64_t size,
                      CUmemAccess_flags access);
// Unmaps and gives the addresses back; the handle stays.
CUresult UnmapVmm(const cuda::Driver& driver, const VmmMapping& mapping);

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_VMM_CALLS_H_
