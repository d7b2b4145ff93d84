#include "common/heap/range_heap.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "common/check.h"

namespace tenure::heap {
namespace {

// A bin holds the lengths [BinFloor(b), BinFloor(b + 1)): one length each below 32 granules, a
// sixteenth of a doubling above.
constexpr uint32_t BinOf(uint32_t length) {
  const uint32_t width = static_cast<uint32_t>(std::bit_width(length));
  const uint32_t shift = width > 5 ? width - 5 : 0;
  return 16 * shift + (length >> shift);
}

constexpr uint64_t BinFloor(uint32_t bin) {
  const uint32_t shift = bin < 32 ? 0 : bin / 16 - 1;
  return uint64_t{bin - 16 * shift} << shift;
}
static_assert(BinOf(std::numeric_limits<uint32_t>::max()) < 512);
static_assert(BinFloor(BinOf(1000)) <= 1000 && BinFloor(BinOf(1000) + 1) > 1000);

// How many ranges of nearly the right length are tried before a longer one is split.
constexpr uint64_t kLooks = 8;

// Neither wraps: a start is less than 2^32 units, and a step at most 2^63.
constexpr uint64_t AlignUp(uint64_t start, uint64_t step) {
  return (start + step - 1) & ~(step - 1);
}

}  // namespace

RangeHeap::RangeHeap(Bytes size, Bytes granule)
    : granule_shift_(static_cast<uint32_t>(std::countr_zero(granule.value()))) {
  TENURE_CHECK(IsPowerOfTwo(granule.value()));
  TENURE_CHECK(size.value() > 0 && size.value() % granule.value() == 0);
  TENURE_CHECK(size.value() >> granule_shift_ < kNone);
  units_ = static_cast<uint32_t>(size.value() >> granule_shift_);
  free_units_ = 0;
  bins_.assign(BinOf(units_) + 1, kNone);
  ranges_.push_back(Range{.start = 0, .length = units_});
  LinkFree(0);
}

uint64_t RangeHeap::ToUnits(Bytes bytes) const {
  if (bytes <= granule()) return 1;
  return ((bytes.value() - 1) >> granule_shift_) + 1;
}

std::optional<Bytes> RangeHeap::Allocate(Bytes size, Bytes alignment) {
  TENURE_CHECK(IsPowerOfTwo(alignment.value()));
  if (size > free_bytes()) return std::nullopt;
  const uint32_t length = static_cast<uint32_t>(ToUnits(size));
  const uint64_t step = ToUnits(alignment);
  // The range is taken out of its bin before it is split, because its bin depends on its length.
  uint32_t index = FindFit(length, step);
  if (index == kNone) return std::nullopt;

  UnlinkFree(index);
  const uint64_t start = ranges_[index].start;
  const uint32_t gap = static_cast<uint32_t>(AlignUp(start, step) - start);
  // The padding before the aligned start is a free range again, and so is the rest behind the end.
  if (gap > 0) {
    const uint32_t rest = SplitOff(index, gap);
    LinkFree(index);
    index = rest;
  }
  if (ranges_[index].length > length) LinkFree(SplitOff(index, length));
  ranges_[index].used = true;
  used_ranges_.emplace(ranges_[index].start, index);
  return ToBytes(ranges_[index].start);
}

std::optional<Bytes> RangeHeap::Free(Bytes offset) {
  if (offset >= size() || offset.value() % granule().value() != 0) return std::nullopt;
  const auto found = used_ranges_.find(static_cast<uint32_t>(offset.value() >> granule_shift_));
  if (found == used_ranges_.end()) return std::nullopt;
  uint32_t index = found->second;
  used_ranges_.erase(found);
  const Bytes freed = ToBytes(ranges_[index].length);
  ranges_[index].used = false;
  // Only the direct neighbours can be merged: two free ranges were never neighbours before.
  const uint32_t after = ranges_[index].after;
  if (after != kNone && !ranges_[after].used) {
    UnlinkFree(after);
    AbsorbAfter(index);
  }
  const uint32_t before = ranges_[index].before;
  if (before != kNone && !ranges_[before].used) {
    UnlinkFree(before);
    AbsorbAfter(before);
    index = before;
  }
  LinkFree(index);
  return freed;
}

Bytes RangeHeap::largest_free() const {
  // The longest range is in the highest bin in use. A bin holds several lengths, so its ranges are
  // compared, until one has the bin's largest length.
  uint32_t bin = static_cast<uint32_t>(bins_.size());
  do {
    if (bin == 0) return Bytes(0);
    --bin;
  } while (bins_[bin] == kNone);
  uint32_t longest = 0;
  for (uint32_t i = bins_[bin]; i != kNone; i = ranges_[i].bin_after) {
    longest = std::max(longest, ranges_[i].length);
    if (uint64_t{longest} + 1 == BinFloor(bin + 1)) break;
  }
  return ToBytes(longest);
}

uint32_t RangeHeap::FindFit(uint64_t length, uint64_t step) const {
  // A range in a bin from `sure` on can hold the request wherever it starts. A range in a bin from
  // `maybe` to `sure` can hold it only if its start needs little padding.
  const uint64_t padded = length + step - 1;
  const uint32_t maybe = BinOf(static_cast<uint32_t>(length));
  uint32_t sure = static_cast<uint32_t>(bins_.size());
  if (padded <= units_) {
    sure = BinOf(static_cast<uint32_t>(padded));
    if (BinFloor(sure) < padded) ++sure;
  }
  // A range of nearly the right length comes first, and a longer one is split only then. If there
  // is no longer one, the remaining ranges of nearly the right length are the last chance.
  const uint32_t close = FirstFit(maybe, sure, length, step, kLooks);
  if (close != kNone) return close;
  const uint32_t longer = NextBinInUse(sure);
  if (longer < bins_.size()) return bins_[longer];
  return FirstFit(maybe, sure, length, step, std::numeric_limits<uint64_t>::max());
}

uint32_t RangeHeap::FirstFit(uint32_t first_bin, uint32_t end_bin, uint64_t length, uint64_t step,
                             uint64_t looks) const {
  for (uint32_t bin = NextBinInUse(first_bin); bin < end_bin; bin = NextBinInUse(bin + 1)) {
    for (uint32_t i = bins_[bin]; i != kNone; i = ranges_[i].bin_after) {
      const uint64_t end = uint64_t{ranges_[i].start} + ranges_[i].length;
      if (AlignUp(ranges_[i].start, step) + length <= end) return i;
      if (--looks == 0) return kNone;
    }
  }
  return kNone;
}

uint32_t RangeHeap::NextBinInUse(uint32_t bin) const {
  for (uint32_t word = bin / 64; word < kBitmapWords; ++word) {
    const uint64_t from = word == bin / 64 ? ~uint64_t{0} << (bin % 64) : ~uint64_t{0};
    const uint64_t in_use = bins_in_use_[word] & from;
    if (in_use != 0) return 64 * word + static_cast<uint32_t>(std::countr_zero(in_use));
  }
  return static_cast<uint32_t>(bins_.size());
}

void RangeHeap::LinkFree(uint32_t index) {
  Range& range = ranges_[index];
  const uint32_t bin = BinOf(range.length);
  range.bin_before = kNone;
  range.bin_after = bins_[bin];
  if (bins_[bin] != kNone) ranges_[bins_[bin]].bin_before = index;
  bins_[bin] = index;
  bins_in_use_[bin / 64] |= uint64_t{1} << (bin % 64);
  free_units_ += range.length;
}

void RangeHeap::UnlinkFree(uint32_t index) {
  const Range& range = ranges_[index];
  const uint32_t bin = BinOf(range.length);
  if (range.bin_after != kNone) ranges_[range.bin_after].bin_before = range.bin_before;
  if (range.bin_before != kNone) {
    ranges_[range.bin_before].bin_after = range.bin_after;
  } else {
    bins_[bin] = range.bin_after;
    if (bins_[bin] == kNone) bins_in_use_[bin / 64] &= ~(uint64_t{1} << (bin % 64));
  }
  free_units_ -= range.length;
}

uint32_t RangeHeap::SplitOff(uint32_t index, uint32_t length) {
  uint32_t rest = unused_record_;
  if (rest != kNone) {
    unused_record_ = ranges_[rest].after;
  } else {
    rest = static_cast<uint32_t>(ranges_.size());
    ranges_.emplace_back();
  }
  // The reference is taken only here: emplace_back may have moved the records.
  Range& range = ranges_[index];
  TENURE_DCHECK(length > 0 && length < range.length);
  ranges_[rest] = Range{.start = range.start + length,
                        .length = range.length - length,
                        .before = index,
                        .after = range.after};
  if (range.after != kNone) ranges_[range.after].before = rest;
  range.after = rest;
  range.length = length;
  return rest;
}

void RangeHeap::AbsorbAfter(uint32_t index) {
  Range& range = ranges_[index];
  const uint32_t absorbed = range.after;
  range.length += ranges_[absorbed].length;
  range.after = ranges_[absorbed].after;
  if (range.after != kNone) ranges_[range.after].before = index;
  // Unused records form a list through `after`, from which SplitOff takes its next one.
  ranges_[absorbed] = Range{.after = unused_record_};
  unused_record_ = absorbed;
}

void RangeHeap::CheckInvariants() const {
  CheckTiling();
  CheckBins();
}

void RangeHeap::CheckTiling() const {
  uint64_t end = 0;
  uint64_t free_units = 0;
  size_t used = 0;
  size_t records = 0;
  uint32_t before = kNone;
  for (uint32_t i = 0; i != kNone; before = i, i = ranges_[i].after) {
    const Range& range = ranges_[i];
    TENURE_CHECK(range.start == end && range.length > 0 && range.before == before);
    end += range.length;
    ++records;
    if (range.used) {
      const auto found = used_ranges_.find(range.start);
      TENURE_CHECK(found != used_ranges_.end() && found->second == i);
      ++used;
    } else {
      TENURE_CHECK(before == kNone || ranges_[before].used);
      free_units += range.length;
    }
  }
  TENURE_CHECK(end == units_ && free_units == free_units_ && used == used_ranges_.size());
  for (uint32_t i = unused_record_; i != kNone; i = ranges_[i].after) ++records;
  TENURE_CHECK(records == ranges_.size());
}

void RangeHeap::CheckBins() const {
  uint64_t free_units = 0;
  for (uint32_t bin = 0; bin < bins_.size(); ++bin) {
    const bool in_use = (bins_in_use_[bin / 64] >> (bin % 64) & 1) != 0;
    TENURE_CHECK(in_use == (bins_[bin] != kNone));
    uint32_t before = kNone;
    for (uint32_t i = bins_[bin]; i != kNone; before = i, i = ranges_[i].bin_after) {
      const Range& range = ranges_[i];
      TENURE_CHECK(!range.used && range.length > 0 && BinOf(range.length) == bin);
      TENURE_CHECK(range.bin_before == before);
      free_units += range.length;
    }
  }
  // Together with CheckTiling this means that no free range is missing from the bins: each is in
  // one bin only, and the sums agree.
  TENURE_CHECK(free_units == free_units_);
}

}  // namespace tenure::heap
