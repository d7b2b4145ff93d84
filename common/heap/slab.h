// Up to 256 blocks of one size, side by side.
#ifndef COMMON_HEAP_SLAB_H_
#define COMMON_HEAP_SLAB_H_

#include <array>
#include <bit>
#include <cstdint>

#include "common/bytes.h"
#include "common/check.h"

namespace tenure::heap {

// The blocks of one size from a start offset on, with a bitmap of the free ones. Take always
// returns the lowest free block, so that live blocks gather at the lower end.
//
// Invariants: free_blocks() is the number of set bits; no bit at or beyond capacity() is set.
//
// Owns: its bitmap.
// Cost: O(1), no memory beyond the object, which fits a cache line.
//
// Thread safety: thread-compatible.
class Slab {
 public:
  static constexpr uint32_t kMaxBlocks = 256;

  // The blocks at start + i * block_size for i below `capacity`, all free. REQUIRES: `start` and
  // `block_size` are multiples of 256 and less than 2^40; `capacity` is in [1, 256].
  Slab(Bytes start, Bytes block_size, uint32_t capacity);

  // The offset of the lowest free block, which is live from now on. REQUIRES: not full().
  Bytes Take();
  // Frees the block at `offset`. False, and no change, unless a live block starts there.
  bool Free(Bytes offset);

  Bytes start() const { return Bytes(uint64_t{start_} * kUnit); }
  Bytes block_size() const { return Bytes(uint64_t{block_units_} * kUnit); }
  uint32_t capacity() const { return capacity_; }
  uint32_t free_blocks() const { return free_blocks_; }
  bool full() const { return free_blocks_ == 0; }
  bool empty() const { return free_blocks_ == capacity_; }

  // Aborts unless the invariants hold.
  void CheckInvariants() const;

 private:
  static constexpr uint64_t kUnit = 256;

  uint32_t start_;        // in units
  uint32_t block_units_;  // in units
  uint16_t capacity_;
  uint16_t free_blocks_;
  std::array<uint64_t, kMaxBlocks / 64> free_ = {};
};

// In the header, to be inlined: an Allocate or Free of the heap is one of these and little else.

inline Bytes Slab::Take() {
  TENURE_DCHECK(!full());
  uint32_t word = 0;
  while (free_[word] == 0) ++word;
  const uint32_t block = 64 * word + static_cast<uint32_t>(std::countr_zero(free_[word]));
  free_[word] &= free_[word] - 1;
  --free_blocks_;
  return Bytes((start_ + uint64_t{block} * block_units_) * kUnit);
}

inline bool Slab::Free(Bytes offset) {
  if (offset < start() || offset.value() % kUnit != 0) return false;
  const uint64_t units = offset.value() / kUnit - start_;
  if (units >= uint64_t{capacity_} * block_units_) return false;
  // 32 bits, because the division takes most of the time of a free, and a 64-bit one takes longer.
  const uint32_t within = static_cast<uint32_t>(units);
  const uint32_t block = within / block_units_;
  const uint64_t bit = uint64_t{1} << (block % 64);
  if (block * block_units_ != within || (free_[block / 64] & bit) != 0) return false;
  free_[block / 64] |= bit;
  ++free_blocks_;
  return true;
}

}  // namespace tenure::heap

#endif  // COMMON_HEAP_SLAB_H_
