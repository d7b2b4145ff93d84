#include "server/leases/kept_memory.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

#include "common/status_macros.h"
#include "server/memory/device_heap.h"

namespace tenure::server {
namespace {

// Makes, exports, imports and releases memory of our own: whether the driver does its work.
absl::Status Probe(cuda::Device& device) {
  TENURE_ASSIGN_OR_RETURN(const cuda::VmmMemory memory, device.CreateVmm(kRegionUnit));
  const absl::StatusOr<UniqueFd> fd = device.ExportVmm(memory);
  absl::Status status = fd.status();
  if (fd.ok()) {
    const absl::StatusOr<cuda::VmmMemory> imported =
        device.ImportVmm(fd->get(), kRegionUnit, cuda::VmmAccess::kReadWrite);
    status = imported.ok() ? device.ReleaseVmm(*imported) : imported.status();
  }
  status.Update(device.ReleaseVmm(memory));
  return status;
}

// Every region that a session or a published segment has.
std::map<RegionId, Bytes> RegionsIn(const JournalState& state) {
  std::map<RegionId, Bytes> regions;
  for (const auto& [id, session] : state.sessions()) {
    for (const auto& [allocation, block] : session.blocks)
      regions.emplace(block.region_id(), Bytes(block.region_bytes()));
  }
  for (const auto& [place, segment] : state.segments()) {
    // An unpublished one has no name any more, and its memory was on its way to the driver.
    if (!segment.published) continue;
    for (const journal::Segment::Block& block : segment.segment.blocks())
      regions.emplace(block.region_id(), Bytes(block.region_bytes()));
  }
  return regions;
}

}  // namespace

absl::StatusOr<KeptMemory> KeptMemory::Import(cuda::Device& device, const JournalState& state,
                                              FdStore& store) {
  KeptMemory kept(device);
  kept.fds_ = store.TakeStored();
  for (const auto& [region, size] : RegionsIn(state)) {
    const absl::Status imported = kept.ImportOne(region, size);
    if (imported.ok()) continue;
    return absl::InternalError(absl::StrCat(
        "region ", region, " of an earlier life cannot be imported: ", imported.message(),
        ". It is not proven lost, so this start gives nothing up; the next one tries again"));
  }
  for (const auto& [name, fd] : kept.fds_) kept.unused_.insert(name);
  kept.fds_.clear();
  return kept;
}

KeptMemory::~KeptMemory() {
  // Those that nobody took. Empty after a move.
  for (const auto& [id, region] : regions_) device_->ReleaseVmm(region.memory).IgnoreError();
}

std::optional<ExportedVmm> KeptMemory::Take(RegionId region) {
  const auto found = regions_.find(region);
  if (found == regions_.end()) return std::nullopt;
  std::optional<ExportedVmm> memory = std::move(found->second);
  regions_.erase(found);
  return memory;
}

absl::Status KeptMemory::ImportOne(RegionId region, Bytes size) {
  const std::string name = DeviceHeap::StoreName(region);
  auto kept = fds_.extract(name);
  if (kept.empty()) return absl::OkStatus();
  UniqueFd fd = std::move(kept.mapped());
  const absl::StatusOr<cuda::VmmMemory> first =
      device_->ImportVmm(fd.get(), size, cuda::VmmAccess::kReadWrite);
  std::optional<cuda::VmmMemory> memory;
  if (first.ok()) {
    memory = *first;
  } else if (!absl::IsNotFound(first.status()) && !absl::IsInvalidArgument(first.status()) &&
             !absl::IsResourceExhausted(first.status())) {
    // Not a word about this descriptor: the context is lost, and nothing may be served on it.
    return first.status();
  } else {
    spdlog::warn("region {}: {}; trying again", region, std::string(first.status().message()));
    TENURE_RETURN_IF_ERROR(ProveOrImport(fd.get(), size, &memory));
  }
  if (memory) {
    regions_.emplace(region, ExportedVmm{*memory, std::move(fd)});
  } else {
    unused_.insert(name);
  }
  return absl::OkStatus();
}

absl::Status KeptMemory::ProveOrImport(int fd, Bytes size, std::optional<cuda::VmmMemory>* memory) {
  TENURE_RETURN_IF_ERROR(Probe(*device_));
  const absl::StatusOr<cuda::VmmMemory> again =
      device_->ImportVmm(fd, size, cuda::VmmAccess::kReadWrite);
  if (again.ok()) {
    *memory = *again;
    return absl::OkStatus();
  }
  if (!absl::IsNotFound(again.status())) return again.status();
  return Probe(*device_);
}

}  // namespace tenure::server
