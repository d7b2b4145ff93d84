// The functions of Device for memory that file descriptors name.
#include <utility>

#include "absl/strings/str_cat.h"
#include <cuda.h>

#include "common/cuda/device.h"
#include "common/cuda/device_internal.h"
#include "common/cuda/driver.h"
#include "common/status_macros.h"

namespace tenure::cuda {
namespace {

CUmemLocation LocationOf(const Device& device) {
  CUmemLocation location = {};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device.ordinal();
  return location;
}

// Unmaps the memory and frees its addresses. The second step is tried also when the first one
// fails; the first error is returned.
absl::Status Unmap(const Device& device, const VmmMemory& memory) {
  const auto attempt = [&] { return absl::StrCat("unmap ", FormatBytes(memory.size)); };
  absl::Status status = CallOn(device, "cuMemUnmap", attempt, [&] {
    return device.driver().cuMemUnmap(memory.base, memory.size.value());
  });
  status.Update(CallOn(device, "cuMemAddressFree", attempt, [&] {
    return device.driver().cuMemAddressFree(memory.base, memory.size.value());
  }));
  return status;
}

absl::Status ReleaseHandle(const Device& device, uint64_t handle) {
  return CallOn(
      device, "cuMemRelease", [] { return "release memory"; },
      [&] { return device.driver().cuMemRelease(handle); });
}

absl::Status SetAccess(const Device& device, const VmmMemory& memory, VmmAccess access) {
  CUmemAccessDesc wanted = {};
  wanted.location = LocationOf(device);
  wanted.flags = access == VmmAccess::kRead ? CU_MEM_ACCESS_FLAGS_PROT_READ
                                            : CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return CallOn(
      device, "cuMemSetAccess",
      [&] { return absl::StrCat("allow access to ", FormatBytes(memory.size)); },
      [&] { return device.driver().cuMemSetAccess(memory.base, memory.size.value(), &wanted, 1); });
}

// Maps the handle at memory.base. The driver maps whole objects only, and answers NOT_SUPPORTED to
// any other size.
absl::Status MapHandle(const Device& device, const VmmMemory& memory) {
  bool other_size = false;
  absl::Status status = CallOn(
      device, "cuMemMap", [&] { return absl::StrCat("map ", FormatBytes(memory.size)); },
      [&] {
        const CUresult result =
            device.driver().cuMemMap(memory.base, memory.size.value(), 0, memory.handle, 0);
        other_size = result == CUDA_ERROR_NOT_SUPPORTED;
        return result;
      });
  if (!other_size) return status;
  return absl::InvalidArgumentError(
      absl::StrCat(status.message(), "; the memory is not of that size"));
}

// Maps what memory.handle names at a new address, or leaves everything as it was.
absl::StatusOr<VmmMemory> MapSomewhere(const Device& device, VmmMemory memory, VmmAccess access) {
  TENURE_RETURN_IF_ERROR(CallOn(
      device, "cuMemAddressReserve",
      [&] { return absl::StrCat("reserve addresses for ", FormatBytes(memory.size)); },
      [&] {
        CUdeviceptr base = 0;
        const CUresult result =
            device.driver().cuMemAddressReserve(&base, memory.size.value(), 0, 0, 0);
        memory.base = base;
        return result;
      }));
  absl::Status status = MapHandle(device, memory);
  if (status.ok()) status = SetAccess(device, memory, access);
  if (status.ok()) return memory;
  // If MapHandle failed, nothing is mapped there; unmapping such addresses is allowed.
  static_cast<void>(Unmap(device, memory));
  return status;
}

// The same; releases the handle on failure.
absl::StatusOr<VmmMemory> MapOrRelease(const Device& device, uint64_t handle, Bytes size,
                                       VmmAccess access) {
  VmmMemory memory;
  memory.handle = handle;
  memory.size = size;
  absl::StatusOr<VmmMemory> mapped = MapSomewhere(device, memory, access);
  if (!mapped.ok()) static_cast<void>(ReleaseHandle(device, handle));
  return mapped;
}

}  // namespace

absl::StatusOr<VmmMemory> Device::CreateVmm(Bytes size) {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location = LocationOf(*this);
  CUmemGenericAllocationHandle handle = 0;
  TENURE_RETURN_IF_ERROR(CallOn(
      *this, "cuMemCreate", [&] { return absl::StrCat("create ", FormatBytes(size)); },
      [&] { return driver_.cuMemCreate(&handle, size.value(), &properties, 0); }));
  return MapOrRelease(*this, handle, size, VmmAccess::kReadWrite);
}

absl::StatusOr<UniqueFd> Device::ExportVmm(const VmmMemory& memory) {
  int fd = -1;
  TENURE_RETURN_IF_ERROR(CallOn(
      *this, "cuMemExportToShareableHandle",
      [&] { return absl::StrCat("export ", FormatBytes(memory.size)); },
      [&] {
        return driver_.cuMemExportToShareableHandle(&fd, memory.handle,
                                                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
      }));
  return UniqueFd(fd);
}

absl::StatusOr<VmmMemory> Device::ImportVmm(int fd, Bytes size, VmmAccess access) {
  CUmemGenericAllocationHandle handle = 0;
  bool no_memory = false;
  const absl::Status imported = CallOn(
      *this, "cuMemImportFromShareableHandle",
      [&] { return absl::StrCat("import ", FormatBytes(size), " by a file descriptor"); },
      [&] {
        const CUresult result = driver_.cuMemImportFromShareableHandle(
            &handle, reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
            CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        // The driver was seen to answer this to a closed descriptor, a pipe and any other file.
        no_memory = result == CUDA_ERROR_UNKNOWN;
        return result;
      });
  if (no_memory) return absl::NotFoundError(imported.message());
  if (!imported.ok()) return imported;
  return MapOrRelease(*this, handle, size, access);
}

absl::Status Device::ReleaseVmm(const VmmMemory& memory) {
  absl::Status status = Unmap(*this, memory);
  status.Update(ReleaseHandle(*this, memory.handle));
  return status;
}

}  // namespace tenure::cuda
