// One GPU: its name, its memory and copies. Includes no CUDA header.
#ifndef COMMON_CUDA_DEVICE_H_
#define COMMON_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/bytes.h"
#include "common/cuda/ipc_handle.h"
#include "common/cuda/vmm.h"
#include "common/export.h"
#include "common/unique_fd.h"

struct CUctx_st;
struct CUstream_st;

namespace tenure::cuda {

class Driver;

// An address in device memory; cuda.h's CUdeviceptr. Never printed, never sent to another process.
using DevicePointer = uint64_t;

struct DeviceIdentity {
  int ordinal = 0;   // the driver's; depends on CUDA_VISIBLE_DEVICES
  std::string uuid;  // "GPU-" and 36 characters; does not change
  std::string name;
  Bytes total;
};

struct MemoryInfo {
  Bytes free;
  Bytes total;
};

// Finds a device without creating a context on it, which would cost device memory.
// `selector` is an ordinal ("0") or a UUID ("GPU-..."), which may be cut short while it stays
// unique.
// Errors: INVALID_ARGUMENT: neither of these, or several devices match. NOT_FOUND: no device
// matches. The message lists the devices that are there.
absl::StatusOr<DeviceIdentity> Identify(const Driver& driver, absl::string_view selector);

// One GPU with its primary context retained. Each call makes that context current on the calling
// thread and then restores the former one, so that any thread may call.
//
// Borrows: the driver.
// Owns: one reference to the primary context, and a private stream.
// Thread safety: thread-safe.
// Errors: as CodeOf() in status.h sorts the driver's answers.
class TENURE_EXPORT Device {
 public:
  static absl::StatusOr<std::unique_ptr<Device>> Open(const Driver& driver,
                                                      absl::string_view selector);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return driver_; }
  const DeviceIdentity& identity() const { return identity_; }
  const std::string& uuid() const { return identity_.uuid; }
  int ordinal() const { return identity_.ordinal; }
  const std::string& name() const { return identity_.name; }
  Bytes total() const { return identity_.total; }
  // For calls that this class does not offer, inside a ScopedContext.
  CUctx_st* context() const { return context_; }

  // The memory in use and in total, over all processes.
  absl::StatusOr<MemoryInfo> GetMemoryInfo();

  // One driver allocation. RESOURCE_EXHAUSTED: the device has no room for it.
  absl::StatusOr<DevicePointer> Allocate(Bytes size);
  // INVALID_ARGUMENT: not the start of a live allocation of this process.
  absl::Status Free(DevicePointer pointer);

  // The handle names the whole allocation, also when `pointer` lies inside it.
  absl::StatusOr<IpcHandle> Export(DevicePointer pointer);
  // Maps another process's allocation; opening one twice gives the same pointer, to be closed
  // twice.
  // Errors: INVALID_ARGUMENT: freed by its exporter, its exporter is dead, or no handle at all.
  // FAILED_PRECONDITION: the exporter is this process.
  absl::StatusOr<DevicePointer> Import(const IpcHandle& handle);
  absl::Status CloseImport(DevicePointer pointer);

  // Memory that a file descriptor can name, mapped for reading and writing. `size` is a multiple of
  // 2 MiB. A call that fails leaves nothing behind.
  // Errors: RESOURCE_EXHAUSTED: the device has no room.
  absl::StatusOr<VmmMemory> CreateVmm(Bytes size);
  // A new descriptor of memory that this process created; closed on exec. The memory stays while a
  // copy of a descriptor is open in any process.
  // Errors: INVALID_ARGUMENT: the memory is imported, and only the descriptor that it was imported
  // from can be passed on.
  absl::StatusOr<UniqueFd> ExportVmm(const VmmMemory& memory);
  // Maps the memory that `fd` names. The caller still owns `fd`, and may close it at once. A call
  // that fails leaves nothing behind.
  // Errors: NOT_FOUND: it names no memory, as far as one answer can tell. INVALID_ARGUMENT: memory
  // of another device, or of another size.
  absl::StatusOr<VmmMemory> ImportVmm(int fd, Bytes size, VmmAccess access);
  // Releases memory of CreateVmm or ImportVmm. It lives on while another process has it.
  absl::Status ReleaseVmm(const VmmMemory& memory);

  // Zeroes at memory speed, on the private stream, and waits for that stream only.
  absl::Status Clear(DevicePointer pointer, Bytes size);
  // Copies. When they return, the bytes are in device memory, and another process may be told so.
  // They run on the legacy default stream, after all work that this process queued there before.
  absl::Status CopyToDevice(DevicePointer to, const void* from, Bytes size);
  absl::Status CopyToHost(void* to, DevicePointer from, Bytes size);
  absl::Status CopyOnDevice(DevicePointer to, DevicePointer from, Bytes size);
  // Waits for all work that this process has queued on the device.
  absl::Status Synchronize();

 private:
  Device(const Driver& driver, DeviceIdentity identity, CUctx_st* context);

  absl::Status MakeStream();

  const Driver& driver_;
  const DeviceIdentity identity_;
  CUctx_st* const context_;
  CUstream_st* stream_ = nullptr;
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_DEVICE_H_
