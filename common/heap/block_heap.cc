#include "common/heap/block_heap.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/check.h"

namespace tenure::heap {

BlockHeap::BlockHeap(Bytes max_block) : max_block_(max_block) {
  TENURE_CHECK(max_block >= kMinAlignment && max_block <= kMaxSmallBlock);
  spares_.fill(kNone);
}

bool BlockHeap::IsSmall(Bytes size, Bytes alignment) const {
  const std::optional<SizeClass> size_class = ClassFor(size, alignment);
  return size_class && BlockSize(*size_class) <= max_block_;
}

std::optional<Place> BlockHeap::Allocate(Bytes size, Bytes alignment) {
  const std::optional<SizeClass> size_class = ClassFor(size, alignment);
  TENURE_CHECK(size_class && BlockSize(*size_class) <= max_block_);
  std::optional<uint32_t> slab = OpenSlab(*size_class, alignment);
  if (!slab) {
    // The spares of other classes may be the only room that is left.
    FreeSpares();
    slab = OpenSlab(*size_class, alignment);
    if (!slab) return std::nullopt;
  }
  return TakeFrom(*slab);
}

std::optional<uint32_t> BlockHeap::OpenSlab(SizeClass size_class, Bytes alignment) {
  // Slabs start at multiples of kSpanUnit only. A larger alignment is rare and gets a slab of one
  // block.
  if (alignment > kSpanUnit) return CutAlignedSlab(size_class, alignment);
  const Pool& pool = pools_[size_class.index];
  const uint32_t spare = spares_[size_class.index];
  uint32_t slab = pool.open.empty() ? spare : pool.open.top();
  if (slab == kNone) return CutSlab(size_class);
  if (spare != kNone && slabs_[spare].region < slabs_[slab].region) slab = spare;
  // A slab in a late region must not hold it while an earlier one has room for another.
  const std::optional<uint32_t> earliest = longest_free_.First(kSlabShapes[size_class.index].units);
  return earliest.value_or(kNone) < slabs_[slab].region ? CutSlab(size_class) : slab;
}

Place BlockHeap::TakeFrom(uint32_t slab) {
  SlabRecord& record = slabs_[slab];
  Pool& pool = pools_[record.size_class.index];
  Region& region = *regions_[record.region];
  uint32_t& spare = spares_[record.size_class.index];
  // Cleared before Take: a spare has no block, and this slab is about to have one.
  if (spare == slab) spare = kNone;
  const Bytes offset = record.slab.Take();
  Requeue(slab);
  ++region.live_blocks;
  ++pool.allocated_blocks;
  allocated_bytes_ += record.slab.block_size();
  return Place{.region = region.key, .offset = offset, .size = record.slab.block_size()};
}

FreeResult BlockHeap::Free(uint32_t region_key, Bytes offset) {
  const auto found = slot_of_key_.find(region_key);
  if (found == slot_of_key_.end()) return FreeResult::kNotABlock;
  Region& region = *regions_[found->second];
  if (offset >= region.spans.size()) return FreeResult::kNotABlock;
  const uint32_t slab = region.slab_of_unit[offset.value() / kSpanUnit.value()];
  if (slab == kNone || !slabs_[slab].slab.Free(offset)) return FreeResult::kNotABlock;

  const SlabRecord& record = slabs_[slab];
  Pool& pool = pools_[record.size_class.index];
  --region.live_blocks;
  --pool.allocated_blocks;
  allocated_bytes_ -= record.slab.block_size();
  Requeue(slab);
  if (record.slab.empty()) {
    // A class keeps one spare. Of two, the one in the earlier region stays, so that the later
    // region can become empty.
    uint32_t& spare = spares_[record.size_class.index];
    const bool stays = spare == kNone || record.region < slabs_[spare].region;
    const uint32_t goes = stays ? std::exchange(spare, slab) : slab;
    if (goes != kNone) FreeSpan(goes);
  }
  return region.live_blocks == 0 ? FreeResult::kRegionEmptied : FreeResult::kFreed;
}

uint64_t BlockHeap::QueueKey(const SlabRecord& record) {
  return uint64_t{record.region} << 32 | record.slab.start().value() / kSpanUnit.value();
}

void BlockHeap::Requeue(uint32_t slab) {
  SlabRecord& record = slabs_[slab];
  const bool queued = record.position != kNotQueued;
  const bool open = !record.slab.full() && !record.slab.empty();
  if (queued == open) return;
  IndexedHeap& queue = pools_[record.size_class.index].open;
  const auto position = [this](uint32_t item) -> uint32_t& { return slabs_[item].position; };
  if (open) {
    queue.Insert(QueueKey(record), slab, position);
  } else {
    queue.Remove(slab, position);
  }
}

Bytes BlockHeap::NextRegionSize() const {
  return std::clamp(Bytes(std::bit_floor(region_bytes_.value())), kRegionUnit, kMaxRegionWish);
}

std::vector<uint32_t> BlockHeap::EmptyRegions() const {
  std::vector<uint32_t> keys;
  for (const std::optional<Region>& region : regions_) {
    if (region && region->live_blocks == 0) keys.push_back(region->key);
  }
  return keys;
}

BlockHeapStats BlockHeap::Stats() const {
  BlockHeapStats stats = {
      .pools = {}, .region_bytes = region_bytes_, .allocated_bytes = allocated_bytes_};
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    const Pool& pool = pools_[index];
    if (pool.total_blocks == 0) continue;
    stats.pools.push_back(PoolStats{.block_size = BlockSize(SizeClass{index}),
                                    .total_blocks = pool.total_blocks,
                                    .allocated_blocks = pool.allocated_blocks,
                                    .free_blocks = pool.total_blocks - pool.allocated_blocks});
  }
  return stats;
}

}  // namespace tenure::heap
