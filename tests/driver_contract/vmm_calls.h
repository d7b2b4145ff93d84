// The driver's calls for memory that file descriptors name, in the order that a mapping needs.
#ifndef TESTS_DRIVER_CONTRACT_VMM_CALLS_H_
#define TESTS_DRIVER_CONTRACT_VMM_CALLS_H_

#include <cstdint>

#include "common/cuda/driver.h"
#include "common/unique_fd.h"

namespace tenure::testing {

// Errors: each returns the result of the first call that fails. The calls before it are not undone.

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
// Unmaps the memory and frees its addresses. The handle stays.
CUresult UnmapVmm(const cuda::Driver& driver, const VmmMapping& mapping);

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_VMM_CALLS_H_
