#include "server/memory/clean_regions.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace tenure::server {
namespace {

// The sizes that session pools grow by, in MiB, and how many regions of each are in one mix of
// 72 MiB. Most are small because most sessions are: sixteen first regions, two of each of the next
// two sizes, and one of 16 MiB.
constexpr std::array<std::pair<uint64_t, uint64_t>, 4> kReserveMix = {
    {{2, 16}, {4, 2}, {8, 2}, {16, 1}}};

RegionPlan PlanReserve(Bytes target) {
  uint64_t mix_mib = 0;
  for (const auto& [size_mib, count] : kReserveMix) mix_mib += size_mib * count;
  const uint64_t whole_mixes = target.value() / MiB(mix_mib).value();
  RegionPlan plan;
  for (const auto& [size_mib, count] : kReserveMix) plan[MiB(size_mib)] = whole_mixes * count;
  // The rest of the target, after the whole mixes, becomes regions of the smallest size.
  plan[kRegionUnit] += (target.value() - whole_mixes * MiB(mix_mib).value()) / kRegionUnit.value();
  return plan;
}

}  // namespace

CleanRegions::CleanRegions(Bytes limit, Bytes reserve, MemoryKind reserve_kind)
    : limit_(limit), reserve_kind_(reserve_kind), plan_(PlanReserve(std::min(reserve, limit))) {}

std::optional<Region> CleanRegions::Take(Bytes at_least, Bytes at_most, Tenant tenant,
                                         MemoryKind kind) {
  std::optional<Region> region;
  // The cache first: its regions serve this tenant only, those of the reserve serve every other
  // tenant as well.
  const auto cache = caches_.find(tenant);
  if (cache != caches_.end()) region = cache->second[IndexOf(kind)].Take(at_least, at_most);
  if (!region) region = reserve_[IndexOf(kind)].Take(at_least, at_most);
  if (region) bytes_ -= region->size();
  return region;
}

bool CleanRegions::MakeRoom(Bytes size, std::vector<Region>& displaced) {
  // Decided before the first region moves: a region that is too large to be kept must not displace
  // any other.
  if (PlannedBytes() + size > limit_) return false;
  while (bytes_ + size > limit_) {
    std::optional<Region> unplanned = TakeUnplanned();
    // There is one: if only planned regions were left, the sum above would have been too large.
    TENURE_CHECK(unplanned);
    bytes_ -= unplanned->size();
    displaced.push_back(*std::move(unplanned));
  }
  return true;
}

void CleanRegions::Put(Region region) {
  bytes_ += region.size();
  TENURE_CHECK(bytes_ <= limit_);
  Shelves& shelves = region.shared_in_tenant() ? caches_[region.tenant()] : reserve_;
  shelves[IndexOf(region.kind())].Put(std::move(region));
}

Bytes CleanRegions::MissingReserve(uint64_t below_percent) const {
  for (const auto& [size, count] : plan_) {
    if (reserve_[IndexOf(reserve_kind_)].Count(size) * 100 < count * below_percent) return size;
  }
  return Bytes(0);
}

std::vector<Region> CleanRegions::TakeAll() {
  std::vector<Region> all;
  const auto empty = [&all](Shelves& shelves) {
    for (Shelf& shelf : shelves) {
      for (Region& region : shelf.TakeAll()) all.push_back(std::move(region));
    }
  };
  empty(reserve_);
  for (auto& [tenant, shelves] : caches_) empty(shelves);
  caches_.clear();
  bytes_ = Bytes(0);
  return all;
}

void CleanRegions::CheckInvariants() const {
  Bytes sum;
  for (const Shelf& shelf : reserve_) sum += shelf.Sum();
  for (const auto& [tenant, shelves] : caches_) {
    for (const Shelf& shelf : shelves) sum += shelf.Sum();
  }
  TENURE_CHECK(sum == bytes_ && bytes_ <= limit_);
}

Bytes CleanRegions::PlannedBytes() const {
  Bytes planned;
  for (const auto& [size, count] : plan_) {
    const uint64_t there = std::min<uint64_t>(reserve_[IndexOf(reserve_kind_)].Count(size), count);
    planned += Bytes(size.value() * there);
  }
  return planned;
}

std::optional<Region> CleanRegions::TakeUnplanned() {
  static const RegionPlan kNothingPlanned;
  // A tenant's cache serves one tenant, the reserve all of them: a cache's regions are displaced
  // first.
  for (auto& [tenant, shelves] : caches_) {
    for (Shelf& shelf : shelves) {
      if (std::optional<Region> region = shelf.TakeLargestBeyond(kNothingPlanned)) return region;
    }
  }
  for (const MemoryKind kind : kMemoryKinds) {
    const RegionPlan& plan = kind == reserve_kind_ ? plan_ : kNothingPlanned;
    std::optional<Region> region = reserve_[IndexOf(kind)].TakeLargestBeyond(plan);
    if (region) return region;
  }
  return std::nullopt;
}

}  // namespace tenure::server
