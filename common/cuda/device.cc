#include "common/cuda/device.h"

#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include <cuda.h>

#include "common/cuda/device_internal.h"
#include "common/cuda/driver.h"
#include "common/cuda/scoped_context.h"
#include "common/cuda/status.h"
#include "common/status_macros.h"

namespace tenure::cuda {

absl::StatusOr<std::unique_ptr<Device>> Device::Open(const Driver& driver,
                                                     absl::string_view selector) {
  TENURE_ASSIGN_OR_RETURN(DeviceIdentity identity, Identify(driver, selector));
  CUcontext context = nullptr;
  // Device handles of the driver are its ordinals.
  const CUresult result = driver.cuDevicePrimaryCtxRetain(&context, identity.ordinal);
  if (result != CUDA_SUCCESS) {
    return ToStatus(driver, result, "cuDevicePrimaryCtxRetain",
                    absl::StrCat("open a context on ", identity.uuid));
  }
  // The object exists before the stream, so that its destructor releases the context if that fails.
  std::unique_ptr<Device> device =
      absl::WrapUnique(new Device(driver, std::move(identity), context));
  TENURE_RETURN_IF_ERROR(device->MakeStream());
  return device;
}

Device::Device(const Driver& driver, DeviceIdentity identity, CUctx_st* context)
    : driver_(driver), identity_(std::move(identity)), context_(context) {}

Device::~Device() {
  if (stream_ != nullptr) {
    const ScopedContext scope(driver_, context_);
    if (scope.status().ok()) driver_.cuStreamDestroy(stream_);
  }
  driver_.cuDevicePrimaryCtxRelease(identity_.ordinal);
}

absl::Status Device::MakeStream() {
  return CallOn(
      *this, "cuStreamCreate", [] { return "create a stream"; },
      // Not ordered with the legacy default stream: clearing must not wait for work that a library
      // queued there.
      [&] { return driver_.cuStreamCreate(&stream_, CU_STREAM_NON_BLOCKING); });
}

absl::StatusOr<MemoryInfo> Device::GetMemoryInfo() {
  size_t free = 0;
  size_t total = 0;
  TENURE_RETURN_IF_ERROR(CallOn(
      *this, "cuMemGetInfo", [] { return "read the memory in use"; },
      [&] { return driver_.cuMemGetInfo(&free, &total); }));
  return MemoryInfo{Bytes(free), Bytes(total)};
}

absl::StatusOr<DevicePointer> Device::Allocate(Bytes size) {
  CUdeviceptr pointer = 0;
  TENURE_RETURN_IF_ERROR(CallOn(
      *this, "cuMemAlloc", [&] { return absl::StrCat("allocate ", FormatBytes(size)); },
      [&] { return driver_.cuMemAlloc(&pointer, size.value()); }));
  return DevicePointer{pointer};
}

absl::Status Device::Free(DevicePointer pointer) {
  return CallOn(
      *this, "cuMemFree", [] { return "free an allocation"; },
      [&] { return driver_.cuMemFree(pointer); });
}

absl::StatusOr<IpcHandle> Device::Export(DevicePointer pointer) {
  CUipcMemHandle handle = {};
  static_assert(sizeof(handle.reserved) == IpcHandle::kSize);
  TENURE_RETURN_IF_ERROR(CallOn(
      *this, "cuIpcGetMemHandle", [] { return "export an allocation"; },
      [&] { return driver_.cuIpcGetMemHandle(&handle, pointer); }));
  return IpcHandle::FromBytes(absl::string_view(handle.reserved, sizeof(handle.reserved)));
}

absl::StatusOr<DevicePointer> Device::Import(const IpcHandle& handle) {
  CUipcMemHandle raw = {};
  std::memcpy(raw.reserved, handle.AsBytes().data(), sizeof(raw.reserved));
  CUdeviceptr pointer = 0;
  TENURE_RETURN_IF_ERROR(CallOn(
      *this, "cuIpcOpenMemHandle", [] { return "map another process's allocation"; },
      [&] {
        return driver_.cuIpcOpenMemHandle(&pointer, raw, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
      }));
  return DevicePointer{pointer};
}

absl::Status Device::CloseImport(DevicePointer pointer) {
  return CallOn(
      *this, "cuIpcCloseMemHandle", [] { return "unmap another process's allocation"; },
      [&] { return driver_.cuIpcCloseMemHandle(pointer); });
}

absl::Status Device::Clear(DevicePointer pointer, Bytes size) {
  const auto attempt = [&] { return absl::StrCat("clear ", FormatBytes(size)); };
  TENURE_RETURN_IF_ERROR(CallOn(*this, "cuMemsetD8Async", attempt, [&] {
    return driver_.cuMemsetD8Async(pointer, 0, size.value(), stream_);
  }));
  return CallOn(*this, "cuStreamSynchronize", attempt,
                [&] { return driver_.cuStreamSynchronize(stream_); });
}

absl::Status Device::CopyToDevice(DevicePointer to, const void* from, Bytes size) {
  const auto attempt = [&] { return absl::StrCat("copy ", FormatBytes(size), " to the device"); };
  TENURE_RETURN_IF_ERROR(CallOn(*this, "cuMemcpyHtoD", attempt,
                                [&] { return driver_.cuMemcpyHtoD(to, from, size.value()); }));
  // The copy returns when the bytes have left pageable memory, which may be before they are in
  // device memory.
  return CallOn(*this, "cuStreamSynchronize", attempt,
                [&] { return driver_.cuStreamSynchronize(nullptr); });
}

absl::Status Device::CopyToHost(void* to, DevicePointer from, Bytes size) {
  return CallOn(
      *this, "cuMemcpyDtoH",
      [&] { return absl::StrCat("copy ", FormatBytes(size), " from the device"); },
      [&] { return driver_.cuMemcpyDtoH(to, from, size.value()); });
}

absl::Status Device::CopyOnDevice(DevicePointer to, DevicePointer from, Bytes size) {
  const auto attempt = [&] { return absl::StrCat("copy ", FormatBytes(size), " on the device"); };
  TENURE_RETURN_IF_ERROR(CallOn(*this, "cuMemcpyDtoD", attempt,
                                [&] { return driver_.cuMemcpyDtoD(to, from, size.value()); }));
  // cuMemcpyDtoD returns before the copy is done.
  return CallOn(*this, "cuStreamSynchronize", attempt,
                [&] { return driver_.cuStreamSynchronize(nullptr); });
}

absl::Status Device::Synchronize() {
  return CallOn(
      *this, "cuCtxSynchronize", [] { return "wait for queued work"; },
      [&] { return driver_.cuCtxSynchronize(); });
}

}  // namespace tenure::cuda
