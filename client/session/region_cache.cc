#include "client/session/region_cache.h"

#include "common/check.h"

namespace tenure {

cuda::DevicePointer BaseOf(const Mapping& mapping) {
  if (const auto* const vmm = std::get_if<cuda::VmmMemory>(&mapping)) return vmm->base;
  return std::get<cuda::DevicePointer>(mapping);
}

RegionCache::~RegionCache() {
  for (const auto& [id, entry] : regions_) {
    TENURE_CHECK(entry.blocks == 0);
    // The process gives the mapping up either way; a driver that refuses to close it is past
    // helping.
    if (entry.state == State::kMapped) Close(entry.mapping).IgnoreError();
  }
}

bool RegionCache::AwaitSettled(uint64_t region_id, Deadline deadline) {
  while (true) {
    const auto found = regions_.find(region_id);
    if (found == regions_.end() || found->second.state == State::kMapped) return true;
    if (changed_.WaitWithTimeout(&mutex_, deadline.Left()) && deadline.Passed()) return false;
  }
}

absl::Status RegionCache::Close(const Mapping& mapping) {
  if (const auto* const vmm = std::get_if<cuda::VmmMemory>(&mapping)) {
    return device_.ReleaseVmm(*vmm);
  }
  return device_.CloseImport(std::get<cuda::DevicePointer>(mapping));
}

absl::StatusOr<cuda::DevicePointer> RegionCache::Use(
    uint64_t region_id, absl::FunctionRef<absl::StatusOr<Mapping>()> map, Deadline deadline) {
  {
    absl::MutexLock lock(&mutex_);
    if (!AwaitSettled(region_id, deadline)) {
      return absl::DeadlineExceededError(
          "a region that is on its way back to the daemon was granted again, and the daemon's word "
          "on it did not come in time");
    }
    Entry& entry = regions_[region_id];
    if (entry.state == State::kMapped) {
      ++entry.blocks;
      return BaseOf(entry.mapping);
    }
  }
  const absl::StatusOr<Mapping> mapping = map();
  absl::MutexLock lock(&mutex_);
  changed_.SignalAll();
  if (!mapping.ok()) {
    regions_.erase(region_id);
    return mapping.status();
  }
  regions_[region_id] = Entry{State::kMapped, 1, *mapping};
  return BaseOf(*mapping);
}

bool RegionCache::Unmap(uint64_t region_id) {
  Entry& entry = regions_.at(region_id);
  TENURE_CHECK(entry.state == State::kMapped && entry.blocks == 0);
  const Mapping mapping = entry.mapping;
  entry.state = State::kUnmapping;
  mutex_.Unlock();
  const absl::Status closed = Close(mapping);
  mutex_.Lock();
  regions_.at(region_id) = Entry{State::kBarred, 0, {}};
  changed_.SignalAll();
  return closed.ok();
}

bool RegionCache::Drop(uint64_t region_id, WhenEmpty when_empty) {
  absl::MutexLock lock(&mutex_);
  Entry& entry = regions_.at(region_id);
  TENURE_CHECK(entry.state == State::kMapped && entry.blocks > 0);
  if (--entry.blocks > 0 || (when_empty == WhenEmpty::kKeep && !orphaned_)) return false;
  const bool unmapped = Unmap(region_id);
  regions_.erase(region_id);
  return unmapped;
}

Mapping RegionCache::Take(uint64_t region_id) {
  absl::MutexLock lock(&mutex_);
  const auto found = regions_.find(region_id);
  TENURE_CHECK(found != regions_.end() && found->second.state == State::kMapped &&
               found->second.blocks == 1);
  const Mapping mapping = found->second.mapping;
  regions_.erase(found);
  return mapping;
}

std::vector<uint64_t> RegionCache::Retire(absl::Span<const uint64_t> region_ids) {
  std::vector<uint64_t> retired;
  absl::MutexLock lock(&mutex_);
  for (const uint64_t id : region_ids) {
    const auto [found, fresh] = regions_.try_emplace(id, Entry{State::kBarred, 0, {}});
    if (!fresh) {
      if (found->second.state != State::kMapped || found->second.blocks > 0) continue;
      if (!Unmap(id)) {
        // Still mapped as far as anybody knows: the daemon must not hand it out, so it is not told.
        regions_.erase(id);
        changed_.SignalAll();
        continue;
      }
    }
    retired.push_back(id);
  }
  return retired;
}

void RegionCache::Unbar(absl::Span<const uint64_t> region_ids) {
  absl::MutexLock lock(&mutex_);
  for (const uint64_t id : region_ids) {
    const auto found = regions_.find(id);
    if (found != regions_.end() && found->second.state == State::kBarred) regions_.erase(found);
  }
  changed_.SignalAll();
}

void RegionCache::Orphan() {
  absl::MutexLock lock(&mutex_);
  orphaned_ = true;
  std::vector<uint64_t> unused;
  for (const auto& [id, entry] : regions_) {
    if (entry.state == State::kBarred || (entry.state == State::kMapped && entry.blocks == 0)) {
      unused.push_back(id);
    }
  }
  for (const uint64_t id : unused) {
    const auto found = regions_.find(id);
    if (found == regions_.end() || found->second.blocks > 0) continue;
    if (found->second.state == State::kMapped) Unmap(id);
    regions_.erase(id);
  }
  changed_.SignalAll();
}

size_t RegionCache::size() const {
  absl::MutexLock lock(&mutex_);
  size_t mapped = 0;
  for (const auto& [id, entry] : regions_) mapped += entry.state == State::kMapped ? 1 : 0;
  return mapped;
}

}  // namespace tenure
