#include "server/memory/session_pool.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"

namespace tenure::server {
namespace {

// A region may be this much larger than what is asked of it before a fresh one is the better
// choice.
Bytes WithSlack(Bytes size) { return size + Bytes(size.value() / 8); }

}  // namespace

Block::~Block() {
  if (pool_ != nullptr) pool_->GiveBack(*this);
}

std::shared_ptr<SessionPool> SessionPool::Create(DeviceHeap& heap, Tenant tenant,
                                                 Bytes max_pool_block) {
  return std::shared_ptr<SessionPool>(new SessionPool(heap, tenant, max_pool_block));
}

SessionPool::~SessionPool() {
  absl::MutexLock lock(&mu_);
  for (const heap::BlockHeap& blocks : blocks_) TENURE_CHECK(blocks.allocated_bytes() == Bytes(0));
  std::vector<Region> regions;
  for (auto& [key, region] : pool_regions_) regions.push_back(std::move(region));
  for (auto& [key, closed] : closed_regions_) regions.push_back(std::move(closed.region));
  if (heir_) {
    heir_(std::move(regions));
  } else {
    for (Region& region : regions) heap_.Return(std::move(region), /*unmapped=*/false);
  }
}

absl::StatusOr<std::optional<Block>> SessionPool::AllocateWarm(const BlockRequest& request) {
  if (GoesToPool(request)) {
    if (std::optional<Block> block = TakeFromRegions(request)) return block;
    // Pools rather take a larger or a smaller region that is ready than wait for the driver.
    const Bytes wanted = NextRegionSize(request.kind);
    std::optional<Region> region = heap_.TakeWarm(wanted, wanted + wanted, tenant_, request.kind);
    if (!region) region = heap_.TakeWarm(kRegionUnit, wanted, tenant_, request.kind);
    if (!region) return std::nullopt;
    AddRegion(*std::move(region));
    return TakeFromRegions(request);
  }
  if (request.placement == Placement::kPool) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a block of ", request.size.value(), " bytes, aligned to ", request.alignment.value(),
        ", does not fit the pools, which hold blocks up to ", max_pool_block_.value(),
        " bytes; leave the placement to the daemon"));
  }
  const Bytes size = *RoundUp(request.size, kRegionUnit);
  std::optional<Region> region = heap_.TakeWarm(size, WithSlack(size), tenant_, request.kind);
  if (!region) return std::nullopt;
  return MakeDirect(*std::move(region), request);
}

absl::StatusOr<Block> SessionPool::Allocate(const BlockRequest& request) {
  absl::StatusOr<std::optional<Block>> warm = AllocateWarm(request);
  if (!warm.ok()) return warm.status();
  if (*warm) return **std::move(warm);
  const bool pooled = GoesToPool(request);
  const Bytes size = pooled ? NextRegionSize(request.kind) : *RoundUp(request.size, kRegionUnit);
  absl::StatusOr<Region> region = heap_.TakeFromDriver(size, tenant_, request.kind);
  if (absl::IsResourceExhausted(region.status()) && pooled && size > kRegionUnit) {
    // A nearly full device may still have room for the smallest region.
    region = heap_.TakeFromDriver(kRegionUnit, tenant_, request.kind);
  }
  if (!region.ok()) return region.status();
  if (!pooled) return MakeDirect(*std::move(region), request);
  AddRegion(*std::move(region));
  // Another thread of the same session may have filled the new region already; then the pool grows
  // once more.
  if (std::optional<Block> block = TakeFromRegions(request)) return *std::move(block);
  return Allocate(request);
}

std::vector<RegionId> SessionPool::IdleRegions() const {
  absl::MutexLock lock(&mu_);
  std::vector<RegionId> idle;
  for (const heap::BlockHeap& blocks : blocks_) {
    const std::vector<uint32_t> empty = blocks.EmptyRegions();
    for (size_t i = 1; i < empty.size(); ++i) idle.push_back(pool_regions_.at(empty[i]).id());
  }
  return idle;
}

uint32_t SessionPool::Release(absl::Span<const RegionId> ids) {
  std::vector<Region> released;
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return 0;
    for (heap::BlockHeap& blocks : blocks_) {
      for (const uint32_t key : blocks.EmptyRegions()) {
        const auto found = pool_regions_.find(key);
        if (std::find(ids.begin(), ids.end(), found->second.id()) == ids.end()) continue;
        blocks.RemoveRegion(key);
        released.push_back(std::move(found->second));
        pool_regions_.erase(found);
      }
    }
  }
  for (Region& region : released) heap_.Return(std::move(region), /*unmapped=*/true);
  return static_cast<uint32_t>(released.size());
}

Region SessionPool::TakeRegion(Block block) {
  const std::shared_ptr<SessionPool> pool = std::move(block.pool_);
  absl::MutexLock lock(&pool->mu_);
  const auto found = pool->closed_regions_.find(block.region_key_);
  TENURE_CHECK(block.direct_ && found != pool->closed_regions_.end());
  Region region = std::move(found->second.region);
  pool->closed_bytes_ -= region.size();
  pool->closed_regions_.erase(found);
  return region;
}

std::vector<Block> SessionPool::Restore(Region region, absl::Span<const RestoredBlock> blocks) {
  TENURE_CHECK(!blocks.empty());
  absl::MutexLock lock(&mu_);
  const uint32_t key = next_key_++;
  closed_bytes_ += region.size();
  const auto [place, added] =
      closed_regions_.emplace(key, ClosedRegion{std::move(region), blocks.size()});
  TENURE_CHECK(added);
  std::vector<Block> restored;
  for (const RestoredBlock& one : blocks) {
    restored.push_back(Block(shared_from_this(), &place->second.region, key, one.offset, one.size,
                             one.requested, one.direct));
  }
  return restored;
}

void SessionPool::End(Heir heir) {
  absl::MutexLock lock(&mu_);
  ended_ = true;
  heir_ = std::move(heir);
}

SessionPoolStats SessionPool::stats() const {
  absl::MutexLock lock(&mu_);
  SessionPoolStats sum{{}, pool_regions_.size(), closed_regions_.size(), closed_bytes_};
  for (const heap::BlockHeap& blocks : blocks_) {
    heap::BlockHeapStats one = blocks.Stats();
    std::move(one.pools.begin(), one.pools.end(), std::back_inserter(sum.blocks.pools));
    sum.blocks.region_bytes += one.region_bytes;
    sum.blocks.allocated_bytes += one.allocated_bytes;
  }
  return sum;
}

bool SessionPool::GoesToPool(const BlockRequest& request) const {
  if (request.placement == Placement::kDirect) return false;
  absl::MutexLock lock(&mu_);
  return blocks_[IndexOf(request.kind)].IsSmall(request.size, request.alignment);
}

std::optional<Block> SessionPool::TakeFromRegions(const BlockRequest& request) {
  absl::MutexLock lock(&mu_);
  cuda::NoDriverCalls no_driver_calls;
  const std::optional<heap::Place> place =
      blocks_[IndexOf(request.kind)].Allocate(request.size, request.alignment);
  if (!place) return std::nullopt;
  return Block(shared_from_this(), &pool_regions_.at(place->region), place->region, place->offset,
               place->size, request.size, /*direct=*/false);
}

Bytes SessionPool::NextRegionSize(MemoryKind kind) const {
  absl::MutexLock lock(&mu_);
  return blocks_[IndexOf(kind)].NextRegionSize();
}

void SessionPool::AddRegion(Region region) {
  absl::MutexLock lock(&mu_);
  const uint32_t key = next_key_++;
  blocks_[IndexOf(region.kind())].AddRegion(key, region.size());
  pool_regions_.emplace(key, std::move(region));
}

Block SessionPool::MakeDirect(Region region, const BlockRequest& request) {
  absl::MutexLock lock(&mu_);
  const uint32_t key = next_key_++;
  const Bytes size = region.size();
  closed_bytes_ += size;
  const auto [place, added] = closed_regions_.emplace(key, ClosedRegion{std::move(region)});
  TENURE_CHECK(added);
  return Block(shared_from_this(), &place->second.region, key, Bytes(0), size, request.size,
               /*direct=*/true);
}

void SessionPool::GiveBack(const Block& block) {
  std::optional<Region> emptied;
  {
    absl::MutexLock lock(&mu_);
    const auto closed = closed_regions_.find(block.region_key_);
    if (closed == closed_regions_.end()) {
      heap::BlockHeap& blocks = blocks_[IndexOf(block.region().kind())];
      TENURE_CHECK(blocks.Free(block.region_key_, block.offset_) != heap::FreeResult::kNotABlock);
      return;
    }
    // After the end the heir gets the region, together with the others.
    if (--closed->second.blocks > 0 || ended_) return;
    emptied.emplace(std::move(closed->second.region));
    closed_bytes_ -= emptied->size();
    closed_regions_.erase(closed);
  }
  // Of a restored region with several blocks nobody says that it is unmapped.
  heap_.Return(*std::move(emptied), block.unmapped_ && block.direct_);
}

}  // namespace tenure::server
