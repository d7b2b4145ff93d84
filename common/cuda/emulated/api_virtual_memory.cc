// Entry points: memory of cuMemCreate, address ranges, descriptors. None of them needs a current
// context.
#include <cstdint>

#include "common/cuda/emulated/process.h"

namespace emulated = tenure::cuda::emulated;
using emulated::Devices;
using emulated::Entry;

namespace {

// This driver makes pinned memory on a device, which can be exported as a file descriptor or not at
// all. Everything else is refused.
CUresult CheckProperties(Devices& devices, const CUmemAllocationProp* properties) {
  if (properties == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
      properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
      (properties->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return devices.Find(properties->location.id) != nullptr ? CUDA_SUCCESS
                                                          : CUDA_ERROR_INVALID_DEVICE;
}

// Access is granted only to the device whose memory lies at `pointer`: no device can use another's.
CUresult CheckAccess(Devices& devices, CUdeviceptr pointer, const CUmemAccessDesc& wanted) {
  if (wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
      wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
      wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (wanted.location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
  const CUctx_st* device = devices.Find(wanted.location.id);
  if (device == nullptr) return CUDA_ERROR_INVALID_DEVICE;
  const emulated::Card* card = devices.virtual_memory().CardAt(pointer);
  if (card == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return card == device->card.get() ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuMemGetAllocationGranularity(size_t* granularity,
                                               const CUmemAllocationProp* properties,
                                               CUmemAllocationGranularity_flags option) {
  return emulated::Run(Entry::cuMemGetAllocationGranularity, [&](Devices& devices) {
    const CUresult checked = CheckProperties(devices, properties);
    if (checked != CUDA_SUCCESS) return checked;
    if (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM &&
        option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *granularity = emulated::kPage.value();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                             const CUmemAllocationProp* properties, unsigned long long flags) {
  return emulated::Run(Entry::cuMemCreate, [&](Devices& devices) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    const CUresult checked = CheckProperties(devices, properties);
    if (checked != CUDA_SUCCESS) return checked;
    CUctx_st& device = *devices.Find(properties->location.id);
    if (device.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    const bool exportable = properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE;
    return devices.virtual_memory().Create(*device.card, bytes, exportable, handle);
  });
}

CUresult CUDAAPI cuMemRelease(CUmemGenericAllocationHandle handle) {
  return emulated::Run(Entry::cuMemRelease,
                       [&](Devices& devices) { return devices.virtual_memory().Release(handle); });
}

CUresult CUDAAPI cuMemAddressReserve(CUdeviceptr* pointer, size_t bytes, size_t alignment,
                                     CUdeviceptr, unsigned long long flags) {
  return emulated::Run(Entry::cuMemAddressReserve, [&](Devices& devices) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    return devices.virtual_memory().Reserve(bytes, alignment, pointer);
  });
}

CUresult CUDAAPI cuMemAddressFree(CUdeviceptr pointer, size_t bytes) {
  return emulated::Run(Entry::cuMemAddressFree, [&](Devices& devices) {
    return devices.virtual_memory().FreeReservation(pointer, bytes);
  });
}

CUresult CUDAAPI cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset,
                          CUmemGenericAllocationHandle handle, unsigned long long flags) {
  return emulated::Run(Entry::cuMemMap, [&](Devices& devices) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    return devices.virtual_memory().Map(pointer, bytes, offset, handle);
  });
}

CUresult CUDAAPI cuMemUnmap(CUdeviceptr pointer, size_t bytes) {
  return emulated::Run(Entry::cuMemUnmap, [&](Devices& devices) {
    return devices.virtual_memory().Unmap(pointer, bytes);
  });
}

CUresult CUDAAPI cuMemSetAccess(CUdeviceptr pointer, size_t bytes, const CUmemAccessDesc* wanted,
                                size_t count) {
  return emulated::Run(Entry::cuMemSetAccess, [&](Devices& devices) {
    if (wanted == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
    if (count > 1) return CUDA_ERROR_NOT_SUPPORTED;
    const CUresult checked = CheckAccess(devices, pointer, *wanted);
    if (checked != CUDA_SUCCESS) return checked;
    return devices.virtual_memory().SetAccess(pointer, bytes, wanted->flags);
  });
}

CUresult CUDAAPI cuMemExportToShareableHandle(void* shareable, CUmemGenericAllocationHandle handle,
                                              CUmemAllocationHandleType type,
                                              unsigned long long flags) {
  return emulated::Run(Entry::cuMemExportToShareableHandle, [&](Devices& devices) {
    if (shareable == nullptr || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    tenure::UniqueFd descriptor;
    const CUresult result = devices.virtual_memory().Export(handle, &descriptor);
    if (result == CUDA_SUCCESS) *static_cast<int*>(shareable) = descriptor.Release();
    return result;
  });
}

CUresult CUDAAPI cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle,
                                                void* shareable, CUmemAllocationHandleType type) {
  return emulated::Run(Entry::cuMemImportFromShareableHandle, [&](Devices& devices) {
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_INVALID_VALUE;
    const auto descriptor = static_cast<int>(reinterpret_cast<intptr_t>(shareable));
    for (const auto& device : devices.all()) {
      if (device->retained == 0) continue;
      const CUresult result = devices.virtual_memory().Import(*device->card, descriptor, handle);
      if (result != CUDA_ERROR_NOT_FOUND) return result;
    }
    // The real driver was seen to answer this to any descriptor that names none of its memory.
    return CUDA_ERROR_UNKNOWN;
  });
}

}  // extern "C"
