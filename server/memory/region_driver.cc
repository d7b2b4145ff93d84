#include "server/memory/region_driver.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/status_macros.h"

namespace tenure::server {

std::string RegionDriver::StoreName(RegionId id) {
  return absl::StrCat("r", absl::Hex(id, absl::kZeroPad16));
}

absl::StatusOr<Region> RegionDriver::Make(Bytes size, MemoryKind kind) {
  TENURE_CHECK(size.value() > 0 && size.value() % kRegionUnit.value() == 0);
  // On a lost context every call fails; the first failure is the one that says why.
  TENURE_RETURN_IF_ERROR(health_.Check());
  const RegionId id = NewId();
  TENURE_ASSIGN_OR_RETURN(Region::Memory memory,
                          kind == MemoryKind::kVmmFd ? MakeVmm(size, id) : MakeIpc(size));
  Region region(id, size, std::move(memory));
  // Cleared here, although fresh memory looks clear: the driver does not promise it, and another
  // process may have had this memory before.
  const absl::Status cleared = Clear(region);
  if (cleared.ok()) return region;
  // The context is lost in any case; the driver's answer changes nothing.
  FreeMemory(region).IgnoreError();
  region.MarkFreed();
  return health_.Check();
}

Region RegionDriver::Restore(RegionId id, ExportedVmm memory) {
  cuda::NoDriverCallsLock lock(&mu_);
  ++vmm_regions_;
  const Bytes size = memory.memory.size;
  return Region(id, size, std::move(memory));
}

absl::Status RegionDriver::Clear(const Region& region) const {
  absl::Status cleared = device_.Clear(region.base(), region.size());
  if (!cleared.ok()) health_.Fail(cleared);
  return cleared;
}

void RegionDriver::Free(Region region) {
  const absl::Status freed = FreeMemory(region);
  if (!freed.ok()) health_.Fail(freed);
  region.MarkFreed();
}

RegionId RegionDriver::NewId() {
  cuda::NoDriverCallsLock lock(&mu_);
  return (uint64_t{options_.epoch} << (kSlotBits + kGenerationBits)) | next_region_++;
}

absl::Status RegionDriver::CountVmmRegion() {
  cuda::NoDriverCallsLock lock(&mu_);
  // More, if they were restored from a life that was allowed more.
  if (vmm_regions_ >= options_.max_vmm_regions) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the daemon keeps at most ", options_.max_vmm_regions,
        " regions of kind VMM_FD at once, and there are that many; free some, request fewer and "
        "larger blocks, or raise --fd-store-max"));
  }
  ++vmm_regions_;
  return absl::OkStatus();
}

void RegionDriver::UncountVmmRegion() {
  cuda::NoDriverCallsLock lock(&mu_);
  --vmm_regions_;
}

absl::StatusOr<Region::Memory> RegionDriver::MakeIpc(Bytes size) {
  const absl::StatusOr<cuda::DevicePointer> base = device_.Allocate(size);
  if (!base.ok()) return FailHealthUnlessFull(base.status());
  const absl::StatusOr<cuda::IpcHandle> handle = device_.Export(*base);
  if (handle.ok()) return IpcMemory{*base, *handle};
  // Memory without a handle can serve no client.
  device_.Free(*base).IgnoreError();
  return FailHealthUnlessFull(handle.status());
}

absl::StatusOr<Region::Memory> RegionDriver::MakeVmm(Bytes size, RegionId id) {
  // Counted before the driver makes it: two threads that both saw one place left would otherwise
  // both make a region.
  TENURE_RETURN_IF_ERROR(CountVmmRegion());
  const absl::StatusOr<cuda::VmmMemory> memory = device_.CreateVmm(size);
  absl::Status failure = FailHealthUnlessFull(memory.status());
  if (memory.ok()) {
    absl::StatusOr<UniqueFd> fd = device_.ExportVmm(*memory);
    failure = FailHealthUnlessFull(fd.status());
    // Stored before it is granted: memory that a client has must survive this process. An
    // error of the store is not the driver's, so it does not fail the health.
    if (failure.ok() && options_.store != nullptr) {
      failure = options_.store->Store(StoreName(id), fd->get());
    }
    if (failure.ok()) return ExportedVmm{*memory, *std::move(fd)};
    device_.ReleaseVmm(*memory).IgnoreError();
  }
  UncountVmmRegion();
  return failure;
}

absl::Status RegionDriver::FreeMemory(const Region& region) {
  if (region.kind() == MemoryKind::kCudaIpc) return device_.Free(region.base());
  // The store first: as long as it has a copy of the descriptor, the memory is not free. A
  // supervisor that does not answer has died, and its copy with it. If it lives after all, the next
  // life of the daemon closes the descriptors that no record names.
  if (options_.store != nullptr) options_.store->Remove(StoreName(region.id())).IgnoreError();
  absl::Status released = device_.ReleaseVmm(region.vmm().memory);
  UncountVmmRegion();
  return released;
}

absl::Status RegionDriver::FailHealthUnlessFull(absl::Status status) const {
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  health_.Fail(status);
  return status;
}

}  // namespace tenure::server
