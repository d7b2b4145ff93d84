// The half of BlockHeap that cuts regions into spans, and the check of the books of both.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/heap/block_heap.h"

namespace tenure::heap {

BlockHeap::Region::Region(uint32_t region_key, Bytes size)
    : key(region_key),
      spans(size, kSpanUnit),
      slab_of_unit(size.value() / kSpanUnit.value(), kNone) {}

void BlockHeap::AddRegion(uint32_t key, Bytes size) {
  TENURE_CHECK(size.value() > 0 && size.value() % kRegionUnit.value() == 0);
  uint32_t slot = static_cast<uint32_t>(regions_.size());
  if (unused_slots_.empty()) {
    regions_.emplace_back();
  } else {
    slot = unused_slots_.back();
    unused_slots_.pop_back();
  }
  TENURE_CHECK(slot_of_key_.emplace(key, slot).second);
  regions_[slot].emplace(key, size);
  region_bytes_ += size;
  NoteLongestFree(slot);
}

void BlockHeap::RemoveRegion(uint32_t key) {
  const auto found = slot_of_key_.find(key);
  TENURE_CHECK(found != slot_of_key_.end());
  const uint32_t slot = found->second;
  TENURE_CHECK(regions_[slot]->live_blocks == 0);
  // Spares are empty slabs that are kept for the next block. They are the only spans left.
  FreeSpares(slot);
  TENURE_CHECK(regions_[slot]->spans.empty());
  slot_of_key_.erase(found);
  region_bytes_ -= regions_[slot]->spans.size();
  regions_[slot].reset();
  unused_slots_.push_back(slot);
  longest_free_.Set(slot, 0);
}

SlabShape BlockHeap::NextShape(SizeClass size_class) const {
  // A slab at most doubles its pool. With whole slabs from the start, a session with a few blocks
  // of many sizes would hold one of each size: with a hundred blocks, a third of its region bytes.
  const SlabShape whole = kSlabShapes[size_class.index];
  const uint64_t wanted = pools_[size_class.index].allocated_blocks + 1;
  return wanted < whole.blocks ? ShapeFor(BlockSize(size_class), wanted) : whole;
}

std::optional<uint32_t> BlockHeap::CutSlab(SizeClass size_class) {
  SlabShape shape = NextShape(size_class);
  std::optional<uint32_t> slot = longest_free_.First(shape.units);
  if (!slot) {
    // A gap that is too short for such a slab still serves one block.
    shape = ShapeFor(BlockSize(size_class), 1);
    slot = longest_free_.First(shape.units);
    if (!slot) return std::nullopt;
  }
  const std::optional<uint32_t> slab = CutFrom(*slot, size_class, shape, kSpanUnit);
  TENURE_CHECK(slab);
  return slab;
}

std::optional<uint32_t> BlockHeap::CutAlignedSlab(SizeClass size_class, Bytes alignment) {
  const SlabShape shape = ShapeFor(BlockSize(size_class), 1);
  // The tree knows lengths only, and whether an aligned span fits depends on its start. So the
  // regions with a long enough span are tried in turn.
  for (uint32_t slot = 0; slot < regions_.size(); ++slot) {
    if (longest_free_.Get(slot) < shape.units) continue;
    const std::optional<uint32_t> slab = CutFrom(slot, size_class, shape, alignment);
    if (slab) return slab;
  }
  return std::nullopt;
}

std::optional<uint32_t> BlockHeap::CutFrom(uint32_t slot, SizeClass size_class, SlabShape shape,
                                           Bytes alignment) {
  Region& region = *regions_[slot];
  // A region without live blocks starts again in one piece: spares in the middle of it would split
  // the free span.
  if (region.live_blocks == 0) FreeSpares(slot);
  const std::optional<Bytes> start =
      region.spans.Allocate(Bytes(shape.units * kSpanUnit.value()), alignment);
  if (!start) return std::nullopt;
  const SlabRecord record = {.slab = Slab(*start, BlockSize(size_class), shape.blocks),
                             .region = slot,
                             .position = kNotQueued,
                             .size_class = size_class};
  uint32_t slab = static_cast<uint32_t>(slabs_.size());
  if (unused_slabs_.empty()) {
    slabs_.push_back(record);
  } else {
    slab = unused_slabs_.back();
    unused_slabs_.pop_back();
    slabs_[slab] = record;
  }
  std::fill_n(
      region.slab_of_unit.begin() + static_cast<ptrdiff_t>(start->value() / kSpanUnit.value()),
      shape.units, slab);
  pools_[size_class.index].total_blocks += shape.blocks;
  NoteLongestFree(slot);
  return slab;
}

void BlockHeap::FreeSpan(uint32_t slab) {
  SlabRecord& record = slabs_[slab];
  TENURE_DCHECK(record.slab.empty() && record.position == kNotQueued);
  // A record without a region is an unused one.
  const uint32_t slot = std::exchange(record.region, kNone);
  Region& region = *regions_[slot];
  const Bytes start = record.slab.start();
  const std::optional<Bytes> span = region.spans.Free(start);
  TENURE_CHECK(span);
  std::fill_n(
      region.slab_of_unit.begin() + static_cast<ptrdiff_t>(start.value() / kSpanUnit.value()),
      span->value() / kSpanUnit.value(), kNone);
  pools_[record.size_class.index].total_blocks -= record.slab.capacity();
  unused_slabs_.push_back(slab);
  NoteLongestFree(slot);
}

void BlockHeap::FreeSpares(std::optional<uint32_t> slot) {
  for (uint32_t& spare : spares_) {
    if (spare == kNone || (slot && slabs_[spare].region != *slot)) continue;
    FreeSpan(std::exchange(spare, kNone));
  }
}

uint32_t BlockHeap::LongestFree(const Region& region) {
  return static_cast<uint32_t>(region.spans.largest_free().value() / kSpanUnit.value());
}

void BlockHeap::NoteLongestFree(uint32_t slot) {
  longest_free_.Set(slot, LongestFree(*regions_[slot]));
}

void BlockHeap::CheckInvariants() const {
  longest_free_.CheckInvariants();
  Bytes region_bytes;
  for (uint32_t slot = 0; slot < regions_.size(); ++slot) {
    if (!regions_[slot]) {
      TENURE_CHECK(longest_free_.Get(slot) == 0);
      continue;
    }
    CheckRegion(slot);
    region_bytes += regions_[slot]->spans.size();
  }
  TENURE_CHECK(region_bytes == region_bytes_);
  TENURE_CHECK(slot_of_key_.size() + unused_slots_.size() == regions_.size());
  CheckPools();
}

void BlockHeap::CheckPools() const {
  Bytes allocated_bytes;
  std::array<Pool, kSizeClassCount> recount;
  size_t unused_slabs = 0;
  for (uint32_t slab = 0; slab < slabs_.size(); ++slab) {
    const SlabRecord& record = slabs_[slab];
    if (record.region == kNone) {
      ++unused_slabs;
      continue;
    }
    CheckSlab(slab);
    const uint64_t live = record.slab.capacity() - record.slab.free_blocks();
    recount[record.size_class.index].total_blocks += record.slab.capacity();
    recount[record.size_class.index].allocated_blocks += live;
    allocated_bytes += Bytes(live * record.slab.block_size().value());
  }
  TENURE_CHECK(unused_slabs == unused_slabs_.size() && allocated_bytes == allocated_bytes_);
  for (size_t index = 0; index < kSizeClassCount; ++index) {
    const Pool& pool = pools_[index];
    TENURE_CHECK(recount[index].total_blocks == pool.total_blocks);
    TENURE_CHECK(recount[index].allocated_blocks == pool.allocated_blocks);
    TENURE_CHECK(spares_[index] == kNone || slabs_[spares_[index]].region != kNone);
    pool.open.CheckInvariants([this](uint32_t slab) { return slabs_[slab].position; },
                              [this](uint32_t slab) { return QueueKey(slabs_[slab]); });
  }
}

void BlockHeap::CheckRegion(uint32_t slot) const {
  const Region& region = *regions_[slot];
  region.spans.CheckInvariants();
  const auto found = slot_of_key_.find(region.key);
  TENURE_CHECK(found != slot_of_key_.end() && found->second == slot);
  TENURE_CHECK(longest_free_.Get(slot) == LongestFree(region));
  uint64_t free_units = 0;
  uint32_t live_blocks = 0;
  for (size_t unit = 0; unit < region.slab_of_unit.size();) {
    const uint32_t slab = region.slab_of_unit[unit];
    if (slab == kNone) {
      ++free_units;
      ++unit;
      continue;
    }
    const SlabRecord& record = slabs_[slab];
    TENURE_CHECK(record.region == slot && record.slab.start().value() == unit * kSpanUnit.value());
    live_blocks += record.slab.capacity() - record.slab.free_blocks();
    while (unit < region.slab_of_unit.size() && region.slab_of_unit[unit] == slab) ++unit;
    TENURE_CHECK(unit * kSpanUnit.value() >=
                 record.slab.start().value() +
                     record.slab.capacity() * record.slab.block_size().value());
  }
  TENURE_CHECK(free_units * kSpanUnit.value() == region.spans.free_bytes().value());
  TENURE_CHECK(live_blocks == region.live_blocks);
}

void BlockHeap::CheckSlab(uint32_t slab) const {
  const SlabRecord& record = slabs_[slab];
  record.slab.CheckInvariants();
  TENURE_CHECK(record.slab.block_size() == BlockSize(record.size_class));
  const bool queued = record.position != kNotQueued;
  TENURE_CHECK(queued == (!record.slab.full() && !record.slab.empty()));
  TENURE_CHECK(record.slab.empty() == (spares_[record.size_class.index] == slab));
  TENURE_CHECK(
      regions_[record.region]->slab_of_unit[record.slab.start().value() / kSpanUnit.value()] ==
      slab);
}

}  // namespace tenure::heap
