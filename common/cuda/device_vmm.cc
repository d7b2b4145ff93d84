// What a Device does with memory that file descriptors name.
#include <utility>

#include "absl/strings/str_cat.h"
#include <cuda.h>

#include "common/cuda/device.h"
#include "common/cuda/device_internal.h"
#include "common/cuda/driver.h"

namespace tenure::cuda {
namespace {

CUmemLocation LocationOf(const Device& device) {
  CUmemLocation location = {};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device.ordinal();
  return location;
}

// Gives back what is complete. Every step is tried: what one leaves behind another may still free.
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

// The driver maps whole objects only, and answers NOT_SUPPORTED to any size that is not theirs.
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
  const absl::Status reserved = CallOn(
      device, "cuMemAddressReserve",
      [&] { return absl::StrCat("reserve addresses for ", FormatBytes(memory.size)); },
      [&] {
        CUdeviceptr base = 0;
        const CUresult result =
            device.driver().cuMemAddressReserve(&base, memory.size.value(), 0, 0, 0);
        memory.base = base;
        return result;
      });
  if (!reserved.ok()) return reserved;
  absl::Status status = MapHandle(device, memory);
  if (status.ok()) status = SetAccess(device, memory, access);
  if (status.ok()) return memory;
  // Addresses that nothing is mapped at may be unmapped as well.
  static_cast<void>(Unmap(device, memory));
  return status;
}

// Takes the handle over.
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
  const absl::Status created = CallOn(
      *this, "cuMemCreate", [&] { return absl::StrCat("create ", FormatBytes(size)); },
      [&] { return driver_.cuMemCreate(&handle, size.value(), &properties, 0); });
  if (!created.ok()) return created;
  return MapOrRelease(*this, handle, size, VmmAccess::kReadWrite);
}

absl::StatusOr<UniqueFd> Device::ExportVmm(const VmmMemory& memory) {
  int fd = -1;
  const absl::Status status = CallOn(
      *this, "cuMemExportToShareableHandle",
      [&] { return absl::StrCat("export ", FormatBytes(memory.size)); },
      [&] {
        return driver_.cuMemExportToShareableHandle(&fd, memory.handle,
                                                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
      });
  if (!status.ok()) return status;
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
        // The driver's answer to a closed descriptor, a pipe, and any other file.
        no_memory = result == CUDA_ERROR_UNKNOWN;
        return result;
      });
  if (no_memory) return absl::InvalidArgumentError(imported.message());
  if (!imported.ok()) return imported;
  return MapOrRelease(*this, handle, size, access);
}

absl::Status Device::ReleaseVmm(const VmmMemory& memory) {
  absl::Status status = Unmap(*this, memory);
  status.Update(ReleaseHandle(*this, memory.handle));
  return status;
}

}  // namespace tenure::cuda
