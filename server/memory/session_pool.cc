#include "server/memory/session_pool.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/status_macros.h"

namespace tenure::server {
namespace {

// The largest warm region for a direct block of this size: all of it is leased and charged, so a
// much larger one would waste more than a driver call costs.
Bytes WithSlack(Bytes size) { return size + Bytes(size.value() / 8); }

}  // namespace

Block::~Block() {
  // The pool lives during Free, because this block still owns a share of it. If that is the last
  // share, the pool is destroyed with pool_, after Free and outside the pool's lock.
  if (pool_ != nullptr) pool_->Free(*this);
}

std::shared_ptr<SessionPool> SessionPool::Create(DeviceHeap& heap, Tenant tenant,
                                                 Bytes max_pool_block) {
  return std::shared_ptr<SessionPool>(new SessionPool(heap, tenant, max_pool_block));
}

SessionPool::~SessionPool() {
  // No lock: no thread has a share of the pool any more. And `on_emptied_`
  // takes locks of other rooms.
  for (const heap::BlockHeap& blocks : blocks_) TENURE_CHECK(blocks.allocated_bytes() == Bytes(0));
  std::vector<Region> regions;
  for (auto& [key, region] : pool_regions_) regions.push_back(std::move(region));
  for (auto& [key, closed] : closed_regions_) regions.push_back(std::move(closed.region));
  if (on_emptied_) {
    std::move(on_emptied_)(std::move(regions));
  } else {
    for (Region& region : regions) heap_.Return(std::move(region), /*unmapped=*/false);
  }
}

absl::StatusOr<std::optional<Block>> SessionPool::AllocateWarm(const BlockRequest& request) {
  if (GoesToPool(request)) {
    if (std::optional<Block> block = TakeFromPoolRegions(request)) return block;
    // A warm region of another size is better than a wait for the driver. The larger ones come
    // first: each region costs the client a mapping, so few large ones are better than many small.
    const Bytes wanted = NextRegionSize(request.kind);
    std::optional<Region> region = heap_.TakeWarm(wanted, wanted + wanted, tenant_, request.kind);
    if (!region) region = heap_.TakeWarm(kRegionUnit, wanted, tenant_, request.kind);
    if (!region) return std::nullopt;
    AddPoolRegion(*std::move(region));
    return TakeFromPoolRegions(request);
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
  TENURE_ASSIGN_OR_RETURN(std::optional<Block> warm, AllocateWarm(request));
  if (warm) return *std::move(warm);
  const bool pooled = GoesToPool(request);
  const Bytes size = pooled ? NextRegionSize(request.kind) : *RoundUp(request.size, kRegionUnit);
  absl::StatusOr<Region> region = heap_.TakeFromDriver(size, tenant_, request.kind);
  if (absl::IsResourceExhausted(region.status()) && pooled && size > kRegionUnit) {
    // A nearly full device may still have room for the smallest region.
    region = heap_.TakeFromDriver(kRegionUnit, tenant_, request.kind);
  }
  if (!region.ok()) return region.status();
  if (!pooled) return MakeDirect(*std::move(region), request);
  AddPoolRegion(*std::move(region));
  // The lock was not held since the region was added. Another thread of the same session may have
  // filled it already; then the pool grows once more.
  if (std::optional<Block> block = TakeFromPoolRegions(request)) return *std::move(block);
  return Allocate(request);
}

std::vector<RegionId> SessionPool::IdleRegions() const {
  cuda::NoDriverCallsLock lock(&mu_);
  std::vector<RegionId> idle;
  for (const heap::BlockHeap& blocks : blocks_) {
    const std::vector<uint32_t> empty = blocks.EmptyRegions();
    // From 1: the first empty region stays for the next block.
    for (size_t i = 1; i < empty.size(); ++i) idle.push_back(pool_regions_.at(empty[i]).id());
  }
  return idle;
}

uint32_t SessionPool::Release(absl::Span<const RegionId> ids) {
  std::vector<Region> released;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    // After the end all regions leave together. A request of the client may still be on its way
    // when its session ends.
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
  // After the lock, because the device heap has a lock of its own.
  for (Region& region : released) heap_.Return(std::move(region), /*unmapped=*/true);
  return static_cast<uint32_t>(released.size());
}

Region SessionPool::TakeRegion(Block block) {
  // The block loses its pool here, so that its destructor frees nothing. The pool outlives the lock
  // below, because this pointer is destroyed after it.
  const std::shared_ptr<SessionPool> pool = std::move(block.pool_);
  cuda::NoDriverCallsLock lock(&pool->mu_);
  const auto found = pool->closed_regions_.find(block.region_key_);
  TENURE_CHECK(block.direct_ && found != pool->closed_regions_.end());
  Region region = std::move(found->second.region);
  pool->closed_bytes_ -= region.size();
  pool->closed_regions_.erase(found);
  return region;
}

std::vector<Block> SessionPool::Restore(Region region, absl::Span<const RestoredBlock> blocks) {
  TENURE_CHECK(!blocks.empty());
  cuda::NoDriverCallsLock lock(&mu_);
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

void SessionPool::End(OnEmptied on_emptied) {
  cuda::NoDriverCallsLock lock(&mu_);
  ended_ = true;
  on_emptied_ = std::move(on_emptied);
}

SessionPoolStats SessionPool::stats() const {
  cuda::NoDriverCallsLock lock(&mu_);
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
  cuda::NoDriverCallsLock lock(&mu_);
  return blocks_[IndexOf(request.kind)].IsSmall(request.size, request.alignment);
}

std::optional<Block> SessionPool::TakeFromPoolRegions(const BlockRequest& request) {
  cuda::NoDriverCallsLock lock(&mu_);
  const std::optional<heap::Place> place =
      blocks_[IndexOf(request.kind)].Allocate(request.size, request.alignment);
  if (!place) return std::nullopt;
  return Block(shared_from_this(), &pool_regions_.at(place->region), place->region, place->offset,
               place->size, request.size, /*direct=*/false);
}

Bytes SessionPool::NextRegionSize(MemoryKind kind) const {
  cuda::NoDriverCallsLock lock(&mu_);
  return blocks_[IndexOf(kind)].NextRegionSize();
}

void SessionPool::AddPoolRegion(Region region) {
  cuda::NoDriverCallsLock lock(&mu_);
  const uint32_t key = next_key_++;
  blocks_[IndexOf(region.kind())].AddRegion(key, region.size());
  pool_regions_.emplace(key, std::move(region));
}

Block SessionPool::MakeDirect(Region region, const BlockRequest& request) {
  cuda::NoDriverCallsLock lock(&mu_);
  const uint32_t key = next_key_++;
  const Bytes size = region.size();
  closed_bytes_ += size;
  const auto [place, added] = closed_regions_.emplace(key, ClosedRegion{std::move(region)});
  TENURE_CHECK(added);
  return Block(shared_from_this(), &place->second.region, key, Bytes(0), size, request.size,
               /*direct=*/true);
}

void SessionPool::Free(const Block& block) {
  std::optional<Region> emptied;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const auto closed = closed_regions_.find(block.region_key_);
    if (closed == closed_regions_.end()) {
      heap::BlockHeap& blocks = blocks_[IndexOf(block.region().kind())];
      TENURE_CHECK(blocks.Free(block.region_key_, block.offset_) != heap::FreeResult::kNotABlock);
      return;
    }
    // After the end the region stays, and leaves together with the others.
    if (--closed->second.blocks > 0 || ended_) return;
    emptied.emplace(std::move(closed->second.region));
    closed_bytes_ -= emptied->size();
    closed_regions_.erase(closed);
  }
  // The client says of each block whether it unmapped the region. In a restored region with several
  // blocks, its statement about the last one does not hold for the mappings of the others.
  heap_.Return(*std::move(emptied), block.unmapped_ && block.direct_);
}

}  // namespace tenure::server
