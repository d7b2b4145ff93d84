// How regions come from the driver and go back to it.
#include <utility>

#include "absl/strings/str_cat.h"

#include "server/memory/device_heap.h"

namespace tenure::server {

absl::StatusOr<Region> DeviceHeap::Make(Bytes size, MemoryKind kind) {
  TENURE_CHECK(size.value() > 0 && size.value() % kRegionUnit.value() == 0);
  if (absl::Status healthy = health_.Check(); !healthy.ok()) return healthy;
  const RegionId id = NewId();
  absl::StatusOr<Region::Memory> memory =
      kind == MemoryKind::kVmmFd ? ObtainVmm(size, id) : ObtainIpc(size);
  if (!memory.ok()) return memory.status();
  Region region(id, size, *std::move(memory));
  const absl::Status cleared = Clear(region);
  if (cleared.ok()) return region;
  // The context is lost in any case; the driver's answer changes nothing.
  FreeMemory(region).IgnoreError();
  region.Forget();
  return health_.Check();
}

RegionId DeviceHeap::NewId() {
  absl::MutexLock lock(&mu_);
  return (uint64_t{epoch_} << (kSlotBits + kGenerationBits)) | next_region_++;
}

absl::Status DeviceHeap::FailHealthUnlessFull(absl::Status status) {
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  health_.Fail(status);
  return status;
}

absl::StatusOr<Region::Memory> DeviceHeap::ObtainIpc(Bytes size) {
  const absl::StatusOr<cuda::DevicePointer> base = device_.Allocate(size);
  if (!base.ok()) return FailHealthUnlessFull(base.status());
  const absl::StatusOr<cuda::IpcHandle> handle = device_.Export(*base);
  if (handle.ok()) return IpcMemory{*base, *handle};
  device_.Free(*base).IgnoreError();
  return FailHealthUnlessFull(handle.status());
}

absl::StatusOr<Region::Memory> DeviceHeap::ObtainVmm(Bytes size, RegionId id) {
  if (absl::Status counted = CountVmmRegion(); !counted.ok()) return counted;
  const absl::StatusOr<cuda::VmmMemory> memory = device_.CreateVmm(size);
  absl::Status failure = FailHealthUnlessFull(memory.status());
  if (memory.ok()) {
    absl::StatusOr<UniqueFd> fd = device_.ExportVmm(*memory);
    failure = FailHealthUnlessFull(fd.status());
    if (failure.ok() && store_ != nullptr) failure = store_->Store(StoreName(id), fd->get());
    if (failure.ok()) return ExportedVmm{*memory, *std::move(fd)};
    device_.ReleaseVmm(*memory).IgnoreError();
  }
  UncountVmmRegion();
  return failure;
}

absl::StatusOr<Region> DeviceHeap::RestoreRegion(RegionId id, Bytes size, UniqueFd fd,
                                                 Tenant tenant) {
  if (absl::Status counted = CountVmmRegion(); !counted.ok()) return counted;
  const absl::StatusOr<cuda::VmmMemory> memory =
      device_.ImportVmm(fd.get(), size, cuda::VmmAccess::kReadWrite);
  if (!memory.ok()) {
    UncountVmmRegion();
    return memory.status();
  }
  Region region(id, size, ExportedVmm{*memory, std::move(fd)});
  region.tenant_ = tenant;
  absl::MutexLock lock(&mu_);
  accounts_[tenant] += size;
  ++driver_changes_;
  books_.leased += size;
  return region;
}

std::string DeviceHeap::StoreName(RegionId id) {
  return absl::StrCat("r", absl::Hex(id, absl::kZeroPad16));
}

absl::Status DeviceHeap::FreeMemory(const Region& region) {
  if (region.kind() == MemoryKind::kCudaIpc) return device_.Free(region.base());
  // A supervisor that does not hear has died, and its copy with it; otherwise the next life closes
  // what nobody has a claim to.
  if (store_ != nullptr) store_->Remove(StoreName(region.id())).IgnoreError();
  absl::Status released = device_.ReleaseVmm(region.vmm().memory);
  UncountVmmRegion();
  return released;
}

absl::Status DeviceHeap::CountVmmRegion() {
  absl::MutexLock lock(&mu_);
  if (vmm_regions_ == max_vmm_regions_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the daemon keeps at most ", max_vmm_regions_,
        " regions of kind VMM_FD at once, and so many there are; free some, ask for fewer and "
        "larger blocks, or raise --fd-store-max"));
  }
  ++vmm_regions_;
  return absl::OkStatus();
}

void DeviceHeap::UncountVmmRegion() {
  absl::MutexLock lock(&mu_);
  --vmm_regions_;
}

}  // namespace tenure::server
