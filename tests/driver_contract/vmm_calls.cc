#include "tests/driver_contract/vmm_calls.h"

namespace tenure::testing {

CUmemAllocationProp VmmProperties() {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = 0;
  return properties;
}

CUresult CreateVmm(const cuda::Driver& driver, uint64_t size,
                   CUmemGenericAllocationHandle* handle) {
  const CUmemAllocationProp properties = VmmProperties();
  return driver.cuMemCreate(handle, size, &properties, 0);
}

CUresult ExportVmm(const cuda::Driver& driver, CUmemGenericAllocationHandle handle, UniqueFd* fd) {
  int exported = -1;
  const CUresult result = driver.cuMemExportToShareableHandle(
      &exported, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  if (result == CUDA_SUCCESS) fd->Reset(exported);
  return result;
}

CUresult ImportVmm(const cuda::Driver& driver, int fd, CUmemGenericAllocationHandle* handle) {
  return driver.cuMemImportFromShareableHandle(handle,
                                               reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
}

CUresult MapVmm(const cuda::Driver& driver, VmmMapping* mapping) {
  CUresult result = driver.cuMemAddressReserve(&mapping->base, mapping->size, 0, 0, 0);
  if (result != CUDA_SUCCESS) return result;
  result = driver.cuMemMap(mapping->base, mapping->size, 0, mapping->handle, 0);
  if (result != CUDA_SUCCESS) return result;
  return SetVmmAccess(driver, mapping->base, mapping->size, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
}

CUresult SetVmmAccess(const cuda::Driver& driver, CUdeviceptr base, uint64_t size,
                      CUmemAccess_flags access) {
  CUmemAccessDesc wanted = {};
  wanted.location = VmmProperties().location;
  wanted.flags = access;
  return driver.cuMemSetAccess(base, size, &wanted, 1);
}

CUresult UnmapVmm(const cuda::Driver& driver, const VmmMapping& mapping) {
  const CUresult result = driver.cuMemUnmap(mapping.base, mapping.size);
  return result != CUDA_SUCCESS ? result : driver.cuMemAddressFree(mapping.base, mapping.size);
}

}  // namespace tenure::testing
