// Small blocks of one owner, packed into a few regions.
#ifndef COMMON_HEAP_BLOCK_HEAP_H_
#define COMMON_HEAP_BLOCK_HEAP_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/bytes.h"
#include "common/heap/first_fit_tree.h"
#include "common/heap/indexed_heap.h"
#include "common/heap/range_heap.h"
#include "common/heap/size_classes.h"
#include "common/heap/slab.h"
#include "common/heap/slab_shape.h"

namespace tenure::heap {

// The position of a block. `size` is the block's: at least the requested size.
struct Place {
  uint32_t region = 0;
  Bytes offset;
  Bytes size;
  bool operator==(const Place&) const = default;
};

enum class FreeResult {
  kFreed,          // the block was live and is free now
  kRegionEmptied,  // the same, and it was the last live block of its region
  kNotABlock,      // unknown region, not the start of a block, or free already: nothing changed
};

// The blocks of one size.
struct PoolStats {
  Bytes block_size;
  uint64_t total_blocks = 0;
  uint64_t allocated_blocks = 0;
  uint64_t free_blocks = 0;
};

struct BlockHeapStats {
  std::vector<PoolStats> pools;  // by ascending block size, only those that have blocks
  Bytes region_bytes;
  Bytes allocated_bytes;  // of whole blocks
};

// Allocates blocks of up to 1 MiB from regions that the caller adds and removes, each known by a
// key of the caller's choice. Never touches the memory itself.
//
// Hides: a region is cut into spans, runs of 16 KiB units. A span holds one slab: blocks of one
// size class. When the last block of a slab is freed, its span is freed too, so that another class
// can use it. Each class keeps one such slab as its spare, so that a single block that is allocated
// and freed again does not cut a span each time.
//
// A block comes from the earliest region that has a free one or room for a slab, and there from the
// lowest slab, so that the later regions become empty. The order of the regions never changes, so
// nothing has to be sorted again. Two other orders were measured with a load that had shrunk to a
// third. With the densest slab first, more regions stayed in use. With an open slab of a late
// region before a new slab of an early one, twice as many did.
//
// Invariants:
//   1. Free spans and slabs cover every region exactly, without overlap.
//   2. A slab that is neither full nor empty is in the queue of its pool; an empty one is its
//      pool's spare.
//   3. A region without live blocks holds spares at most. They are freed when the region is
//      removed or a slab is cut from it; those of all regions when a request finds no room.
//   4. The counters equal the sums over the slabs.
//
// Owns: its records, in host memory: 64 bytes per slab and 4 per 16 KiB of region. They grow with
// slabs and regions only, never with a block.
//
// Cost: O(1) for a block of an open slab, O(log n) to open, close or cut one; an alignment above
// 16 KiB looks at every region.
//
// Thread safety: thread-compatible.
class BlockHeap {
 public:
  // Regions are multiples of this and start at a multiple of it in the address space.
  static constexpr Bytes kRegionUnit = MiB(2);
  static constexpr Bytes kMaxRegionWish = MiB(32);

  // `max_block`: a request that needs a larger block is not small.
  explicit BlockHeap(Bytes max_block = kMaxSmallBlock);

  // Whether Allocate may be called for this request. If not, the caller takes a region of its own.
  // REQUIRES: `alignment` is a power of two.
  bool IsSmall(Bytes size, Bytes alignment = kMinAlignment) const;

  // A block for a small request. nullopt: no region has room. After the caller has added one, best
  // of NextRegionSize(), the same call succeeds.
  // REQUIRES: IsSmall(size, alignment).
  std::optional<Place> Allocate(Bytes size, Bytes alignment = kMinAlignment);

  // Safe with any numbers, so that a client's values can be passed on as they are.
  FreeResult Free(uint32_t region, Bytes offset);

  // REQUIRES: `key` is not in use; `size` is a positive multiple of kRegionUnit.
  void AddRegion(uint32_t key, Bytes size);
  // REQUIRES: the region is known and has no live blocks.
  void RemoveRegion(uint32_t key);

  // The best size of the next region: as much as there is already, from 2 MiB to 32 MiB. Each
  // region costs an export, and an import in every process that maps it, so few large ones are
  // better. Every small request fits in 2 MiB.
  Bytes NextRegionSize() const;

  // Keys of the regions without live blocks, in no particular order. Looks at every region.
  std::vector<uint32_t> EmptyRegions() const;

  Bytes region_bytes() const { return region_bytes_; }
  Bytes allocated_bytes() const { return allocated_bytes_; }
  BlockHeapStats Stats() const;

  // Aborts unless the invariants hold, recounting everything.
  void CheckInvariants() const;

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};

  struct Region {
    Region(uint32_t region_key, Bytes size);
    uint32_t key;
    uint32_t live_blocks = 0;
    RangeHeap spans;
    std::vector<uint32_t> slab_of_unit;  // kNone where free
  };

  struct SlabRecord {
    Slab slab;
    uint32_t region;    // slot; kNone in a record not in use
    uint32_t position;  // in its pool's queue
    SizeClass size_class;
  };

  struct Pool {
    IndexedHeap open;  // slabs with both live and free blocks, the first on top
    uint64_t total_blocks = 0;
    uint64_t allocated_blocks = 0;
  };

  // Blocks of slabs (block_heap.cc).
  std::optional<uint32_t> OpenSlab(SizeClass size_class, Bytes alignment);
  Place TakeFrom(uint32_t slab);
  static uint64_t QueueKey(const SlabRecord& record);
  void Requeue(uint32_t slab);

  // Slabs of regions (block_heap_spans.cc).
  SlabShape NextShape(SizeClass size_class) const;
  std::optional<uint32_t> CutSlab(SizeClass size_class);
  std::optional<uint32_t> CutAlignedSlab(SizeClass size_class, Bytes alignment);
  std::optional<uint32_t> CutFrom(uint32_t slot, SizeClass size_class, SlabShape shape,
                                  Bytes alignment);
  void FreeSpan(uint32_t slab);
  // Frees the spare slabs of all regions, or of one.
  void FreeSpares(std::optional<uint32_t> slot = std::nullopt);
  static uint32_t LongestFree(const Region& region);
  void NoteLongestFree(uint32_t slot);
  void CheckPools() const;
  void CheckRegion(uint32_t slot) const;
  void CheckSlab(uint32_t slab) const;

  const Bytes max_block_;
  Bytes region_bytes_;
  Bytes allocated_bytes_;
  absl::flat_hash_map<uint32_t, uint32_t> slot_of_key_;
  std::vector<std::optional<Region>> regions_;  // by slot
  std::vector<uint32_t> unused_slots_;
  std::vector<SlabRecord> slabs_;
  std::vector<uint32_t> unused_slabs_;
  std::array<Pool, kSizeClassCount> pools_;
  // By class, a slab without live blocks or kNone. Not in the pools, because FreeSpares looks at
  // all of them, and side by side they take fewer cache lines.
  std::array<uint32_t, kSizeClassCount> spares_;
  FirstFitTree longest_free_;  // by slot, in span units
};

}  // namespace tenure::heap

#endif  // COMMON_HEAP_BLOCK_HEAP_H_
