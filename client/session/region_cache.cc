#include "client/session/region_cache.h"

#include <utility>

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"

namespace tenure {

cuda::DevicePointer BaseOf(const Mapping& mapping) {
  if (const auto* const vmm = std::get_if<cuda::VmmMemory>(&mapping)) return vmm->base;
  return std::get<cuda::DevicePointer>(mapping);
}

RegionCache::~RegionCache() {
  for (const auto& [id, entry] : regions_) {
    TENURE_CHECK(entry.blocks == 0);
    // An error cannot be reported here, and the end of the process unmaps the region as well.
    if (entry.state == State::kMapped) Close(entry.mapping).IgnoreError();
  }
}

bool RegionCache::AwaitFinished(uint64_t region_id, Deadline deadline) {
  // Looked up each time: while this thread waited, the entry may have been erased, and the table
  // may have moved all others.
  const auto finished = [this, region_id]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = regions_.find(region_id);
    return found == regions_.end() || found->second.state == State::kMapped;
  };
  return changed_.AwaitFor(mutex_, absl::Condition(&finished), deadline.Left());
}

absl::Status RegionCache::Close(const Mapping& mapping) {
  if (const auto* const vmm = std::get_if<cuda::VmmMemory>(&mapping)) {
    return device_.ReleaseVmm(*vmm);
  }
  return device_.CloseImport(std::get<cuda::DevicePointer>(mapping));
}

absl::StatusOr<cuda::DevicePointer> RegionCache::Acquire(
    uint64_t region_id, absl::FunctionRef<absl::StatusOr<Mapping>()> map, Deadline deadline) {
  {
    cuda::NoDriverCallsLock lock(&mutex_);
    if (!AwaitFinished(region_id, deadline)) {
      return absl::DeadlineExceededError(
          "a region that is being returned to the daemon was granted again, and the daemon did not "
          "answer in time");
    }
    // A new entry is kMapping and makes every other caller for this region wait. So a region is
    // mapped once, although no lock is held while it is mapped.
    Entry& entry = regions_[region_id];
    if (entry.state == State::kMapped) {
      ++entry.blocks;
      return BaseOf(entry.mapping);
    }
  }
  const absl::StatusOr<Mapping> mapping = map();
  cuda::NoDriverCallsLock lock(&mutex_);
  changed_.SignalAll();
  if (!mapping.ok()) {
    // The waiting callers find no entry, and the first of them tries to map the region itself.
    regions_.erase(region_id);
    return mapping.status();
  }
  // `entry` from above is not used: the table may have moved it meanwhile.
  regions_[region_id] = Entry{State::kMapped, 1, *mapping};
  return BaseOf(*mapping);
}

Mapping RegionCache::StartUnmap(Entry& entry) {
  TENURE_CHECK(entry.state == State::kMapped && entry.blocks == 0);
  entry.state = State::kUnmapping;
  return entry.mapping;
}

bool RegionCache::Release(uint64_t region_id, WhenEmpty when_empty) {
  Mapping mapping;
  {
    cuda::NoDriverCallsLock lock(&mutex_);
    Entry& entry = regions_.at(region_id);
    TENURE_CHECK(entry.state == State::kMapped && entry.blocks > 0);
    if (--entry.blocks > 0 || (when_empty == WhenEmpty::kKeep && !session_ended_)) return false;
    mapping = StartUnmap(entry);
  }
  const bool unmapped = Close(mapping).ok();
  cuda::NoDriverCallsLock lock(&mutex_);
  regions_.erase(region_id);
  changed_.SignalAll();
  return unmapped;
}

Mapping RegionCache::Extract(uint64_t region_id) {
  cuda::NoDriverCallsLock lock(&mutex_);
  const auto found = regions_.find(region_id);
  TENURE_CHECK(found != regions_.end() && found->second.state == State::kMapped &&
               found->second.blocks == 1);
  const Mapping mapping = found->second.mapping;
  regions_.erase(found);
  return mapping;
}

std::vector<uint64_t> RegionCache::BeginReturn(absl::Span<const uint64_t> region_ids) {
  std::vector<uint64_t> returning;
  for (const uint64_t id : region_ids) {
    Mapping mapping;
    {
      cuda::NoDriverCallsLock lock(&mutex_);
      // A region that this process has not mapped is returned, too, and gets an entry: a token for
      // it must wait like any other.
      const auto [found, fresh] = regions_.try_emplace(id, Entry{State::kReturning, 0, {}});
      if (fresh) {
        returning.push_back(id);
        continue;
      }
      if (found->second.state != State::kMapped || found->second.blocks > 0) continue;
      mapping = StartUnmap(found->second);
    }
    const bool unmapped = Close(mapping).ok();
    cuda::NoDriverCallsLock lock(&mutex_);
    if (unmapped) {
      regions_.at(id) = Entry{State::kReturning, 0, {}};
      returning.push_back(id);
    } else {
      // The region may still be mapped, so the daemon must not grant it again: it is not told.
      regions_.erase(id);
    }
    changed_.SignalAll();
  }
  return returning;
}

void RegionCache::EndReturn(absl::Span<const uint64_t> region_ids) {
  cuda::NoDriverCallsLock lock(&mutex_);
  for (const uint64_t id : region_ids) {
    const auto found = regions_.find(id);
    if (found != regions_.end() && found->second.state == State::kReturning) regions_.erase(found);
  }
  changed_.SignalAll();
}

void RegionCache::EndSession() {
  std::vector<std::pair<uint64_t, Mapping>> unused;
  {
    cuda::NoDriverCallsLock lock(&mutex_);
    session_ended_ = true;
    absl::erase_if(regions_,
                   [](const auto& region) { return region.second.state == State::kReturning; });
    // All are reserved under one lock: none of them can get a block before it is unmapped.
    for (auto& [id, entry] : regions_) {
      if (entry.state == State::kMapped && entry.blocks == 0) {
        unused.emplace_back(id, StartUnmap(entry));
      }
    }
    changed_.SignalAll();
  }
  for (const auto& [id, mapping] : unused) {
    Close(mapping).IgnoreError();
    cuda::NoDriverCallsLock lock(&mutex_);
    regions_.erase(id);
    changed_.SignalAll();
  }
}

size_t RegionCache::size() const {
  cuda::NoDriverCallsLock lock(&mutex_);
  size_t mapped = 0;
  for (const auto& [id, entry] : regions_) mapped += entry.state == State::kMapped ? 1 : 0;
  return mapped;
}

}  // namespace tenure
