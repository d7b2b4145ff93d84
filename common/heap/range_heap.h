// An allocator of ranges of any length inside one base.
#ifndef COMMON_HEAP_RANGE_HEAP_H_
#define COMMON_HEAP_RANGE_HEAP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/bytes.h"
#include "common/heap/size_classes.h"

namespace tenure::heap {

// Allocates and frees half-open ranges of [0, size), and merges free neighbours at once. The base
// itself is never touched: it is device memory or bare address space. So its
// records lie in host memory, and name each other by 32-bit index.
//
// Hides: free ranges are in bins by length, sixteen bins per doubling and one length per bin below
// 32 granules, with a bitmap of the bins in use (the good fit of TLSF). An exact best fit in a tree
// would split a range that is at most a sixteenth shorter, and costs several times as much.
//
// Invariants:
//   1. Free and used ranges cover [0, size) exactly, without overlap; their lengths are positive
//      multiples of the granule.
//   2. No two free ranges are neighbours.
//   3. A free range is in the bin of its length and in no other; a bin's bit tells whether it holds
//      a range.
//   4. free_bytes() is the sum over the free ranges.
//
// Owns: its records, of which there are as many as the largest number of ranges so far.
//
// Cost: O(1), except for a request that almost no free range can hold: then Allocate tries all
// ranges of nearly its length before it returns nullopt.
//
// Thread safety: thread-compatible.
class RangeHeap {
 public:
  // REQUIRES: `granule` is a power of two; `size` is a positive multiple of it and less than 2^32
  // granules.
  explicit RangeHeap(Bytes size, Bytes granule = kMinAlignment);

  // The offset of a range of at least `size` bytes (at least one granule) at a multiple of
  // `alignment`; nullopt only when no free range can hold it. REQUIRES: `alignment` is a power of
  // two, and the base is aligned to it.
  std::optional<Bytes> Allocate(Bytes size, Bytes alignment);

  // Frees the range that starts at `offset` and returns its length; nullopt, and no change, when no
  // used range starts there.
  std::optional<Bytes> Free(Bytes offset);

  Bytes size() const { return ToBytes(units_); }
  Bytes granule() const { return Bytes(uint64_t{1} << granule_shift_); }
  Bytes free_bytes() const { return ToBytes(free_units_); }
  // The length of the longest free range. Looks at the ranges of one bin.
  Bytes largest_free() const;
  // Whether no range is used.
  bool empty() const { return free_units_ == units_; }

  // Aborts unless the invariants hold, recounting everything.
  void CheckInvariants() const;

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  static constexpr size_t kBitmapWords = 8;

  struct Range {
    uint32_t start = 0;
    uint32_t length = 0;
    uint32_t before = kNone;  // the neighbours in [0, size)
    uint32_t after = kNone;   // for a record not in use: the next such record
    uint32_t bin_before = kNone;
    uint32_t bin_after = kNone;
    bool used = false;
  };

  Bytes ToBytes(uint32_t units) const { return Bytes(uint64_t{units} << granule_shift_); }

  uint64_t ToUnits(Bytes bytes) const;  // rounded up, at least one
  // A free range that can hold `length` units at a multiple of `step` units.
  uint32_t FindFit(uint64_t length, uint64_t step) const;
  // The first range that fits in the bins [first_bin, end_bin), after at most `looks` tries.
  uint32_t FirstFit(uint32_t first_bin, uint32_t end_bin, uint64_t length, uint64_t step,
                    uint64_t looks) const;
  // The first bin in use from `bin` on; the number of bins when there is none.
  uint32_t NextBinInUse(uint32_t bin) const;
  // Puts a range into its bin, or takes it out. A range that changes its length must be out.
  void LinkFree(uint32_t index);
  void UnlinkFree(uint32_t index);
  // Shortens a range to `length` and returns the new range that holds the rest.
  uint32_t SplitOff(uint32_t index, uint32_t length);
  // Extends a range by the one after it, whose record is not used any more.
  void AbsorbAfter(uint32_t index);
  void CheckTiling() const;
  void CheckBins() const;

  uint32_t granule_shift_;
  uint32_t units_;
  uint32_t free_units_;
  std::vector<Range> ranges_;  // the range at offset 0 is always record 0
  uint32_t unused_record_ = kNone;
  std::array<uint64_t, kBitmapWords> bins_in_use_ = {};
  std::vector<uint32_t> bins_;                           // the first range of each bin
  absl::flat_hash_map<uint32_t, uint32_t> used_ranges_;  // start to record
};

}  // namespace tenure::heap

#endif  // COMMON_HEAP_RANGE_HEAP_H_
