// Entry points: initialisation, devices, contexts, streams.
#include <algorithm>
#include <cstring>

#include "common/cuda/emulated/process.h"

namespace emulated = tenure::cuda::emulated;
using emulated::Devices;
using emulated::Entry;

namespace {

constexpr char kDeviceName[] = "tenure emulated GPU";

// An H200's values of the attributes that this driver knows.
CUresult AttributeOf(CUdevice_attribute attribute, CUdevice device, int* value) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = 9;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
      *value = 0;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED:
      *value = 1;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 132;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
      *value = device + 1;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// An entry point that asks about one device, with or without a context: body(CUctx_st&).
template <typename Body>
CUresult RunOnDevice(Entry entry, CUdevice ordinal, const Body& body) {
  return emulated::Run(entry, [&](Devices& devices) {
    CUctx_st* device = devices.Find(ordinal);
    return device != nullptr ? body(*device) : CUDA_ERROR_INVALID_DEVICE;
  });
}

// Whether a context has a stream: one of its own or one of the three that always exist.
bool HasStream(const CUctx_st& context, CUstream stream) {
  return stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD ||
         context.streams.contains(stream);
}

// Every call of this driver has done its work when it returns, so no call has to wait for a stream.
CUresult CheckStream(Entry entry, CUstream stream) {
  return emulated::RunInContext(entry, [&](Devices&, CUctx_st& context) {
    return HasStream(context, stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuInit(unsigned int flags) {
  return emulated::RunAnytime(Entry::cuInit, [&](Devices& devices) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    emulated::Process::Instance().Claim();
    return devices.Initialise(emulated::Process::Instance().faults());
  });
}

CUresult CUDAAPI cuDriverGetVersion(int* version) {
  return emulated::RunAlways(Entry::cuDriverGetVersion, [&] {
    *version = 13000;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetCount(int* count) {
  return emulated::Run(Entry::cuDeviceGetCount, [&](Devices& devices) {
    *count = static_cast<int>(devices.all().size());
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
  return RunOnDevice(Entry::cuDeviceGet, ordinal, [&](CUctx_st& found) {
    *device = found.ordinal;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return RunOnDevice(Entry::cuDeviceGetUuid_v2, device, [&](CUctx_st& found) {
    *uuid = found.uuid;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetName(char* name, int length, CUdevice device) {
  return RunOnDevice(Entry::cuDeviceGetName, device, [&](CUctx_st&) {
    if (length <= 0) return CUDA_ERROR_INVALID_VALUE;
    const size_t taken = std::min(sizeof(kDeviceName) - 1, static_cast<size_t>(length) - 1);
    std::memcpy(name, kDeviceName, taken);
    name[taken] = '\0';
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceTotalMem(size_t* bytes, CUdevice device) {
  return RunOnDevice(Entry::cuDeviceTotalMem, device, [&](CUctx_st& found) {
    *bytes = found.card->Capacity();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return RunOnDevice(Entry::cuDeviceGetAttribute, device,
                     [&](CUctx_st&) { return AttributeOf(attribute, device, value); });
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return RunOnDevice(Entry::cuDevicePrimaryCtxRetain, device, [&](CUctx_st& found) {
    const CUresult entered = found.retained == 0 ? found.card->Enter() : CUDA_SUCCESS;
    if (entered != CUDA_SUCCESS) return entered;
    ++found.retained;
    *context = &found;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
  return emulated::Run(Entry::cuDevicePrimaryCtxRelease, [&](Devices& devices) {
    CUctx_st* found = devices.Find(device);
    if (found == nullptr) return CUDA_ERROR_INVALID_DEVICE;
    if (found->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--found->retained == 0) devices.EndContext(*found);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) {
  return emulated::Run(Entry::cuCtxPushCurrent, [&](Devices& devices) {
    emulated::ContextStack& stack = emulated::ThreadContexts();
    // A destroyed context may be pushed. The calls that use it fail.
    if (!devices.IsKnown(context)) return CUDA_ERROR_INVALID_CONTEXT;
    if (stack.depth == emulated::ContextStack::kDepth) return CUDA_ERROR_INVALID_VALUE;
    stack.contexts[stack.depth++] = context;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxPopCurrent(CUcontext* context) {
  return emulated::Run(Entry::cuCtxPopCurrent, [&](Devices&) {
    emulated::ContextStack& stack = emulated::ThreadContexts();
    if (stack.depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (context != nullptr) *context = stack.top();
    --stack.depth;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext context) {
  return emulated::Run(Entry::cuCtxSetCurrent, [&](Devices& devices) {
    emulated::ContextStack& stack = emulated::ThreadContexts();
    if (context != nullptr && !devices.IsKnown(context)) return CUDA_ERROR_INVALID_CONTEXT;
    if (stack.depth > 0) --stack.depth;
    if (context != nullptr) stack.contexts[stack.depth++] = context;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuCtxSynchronize() {
  return emulated::RunInContext(Entry::cuCtxSynchronize,
                                [](Devices&, CUctx_st&) { return CUDA_SUCCESS; });
}

CUresult CUDAAPI cuStreamCreate(CUstream* stream, unsigned int flags) {
  return emulated::RunInContext(Entry::cuStreamCreate, [&](Devices&, CUctx_st& context) {
    if (flags != CU_STREAM_DEFAULT && flags != CU_STREAM_NON_BLOCKING) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    auto made = std::make_unique<CUstream_st>();
    *stream = made.get();
    context.streams[*stream] = std::move(made);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
  return emulated::RunInContext(Entry::cuStreamDestroy, [&](Devices&, CUctx_st& context) {
    return context.streams.erase(stream) > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
  return CheckStream(Entry::cuStreamSynchronize, stream);
}

CUresult CUDAAPI cuStreamQuery(CUstream stream) {
  return CheckStream(Entry::cuStreamQuery, stream);
}

}  // extern "C"
