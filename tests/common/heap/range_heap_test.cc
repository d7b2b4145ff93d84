#include "common/heap/range_heap.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace tenure::heap {
namespace {

// The same heap in its simplest form: a sorted map of the live ranges. The gaps between them are
// the free ranges.
class PlainRanges {
 public:
  explicit PlainRanges(uint64_t size) : size_(size) {}

  bool CanHold(uint64_t length, uint64_t alignment) const {
    return AnyGap([&](uint64_t start, uint64_t end) {
      const uint64_t aligned = (start + alignment - 1) / alignment * alignment;
      return aligned < end && length <= end - aligned;
    });
  }

  bool IsFree(uint64_t start, uint64_t length) const {
    return AnyGap([&](uint64_t gap_start, uint64_t gap_end) {
      return gap_start <= start && start + length <= gap_end;
    });
  }

  uint64_t Longest() const {
    uint64_t longest = 0;
    AnyGap([&](uint64_t start, uint64_t end) {
      longest = std::max(longest, end - start);
      return false;
    });
    return longest;
  }

  std::map<uint64_t, uint64_t>& live() { return live_; }

 private:
  template <typename Predicate>
  bool AnyGap(Predicate predicate) const {
    uint64_t end = 0;
    for (const auto& [start, length] : live_) {
      if (start > end && predicate(end, start)) return true;
      end = start + length;
    }
    return size_ > end && predicate(end, size_);
  }

  uint64_t size_;
  std::map<uint64_t, uint64_t> live_;  // start to length
};

TEST(RangeHeap, WholeBaseCanBeTakenAndComesBack) {
  RangeHeap heap(MiB(2));
  EXPECT_TRUE(heap.empty());
  EXPECT_EQ(heap.largest_free(), MiB(2));
  EXPECT_EQ(heap.Allocate(MiB(2), Bytes(1)), Bytes(0));
  EXPECT_EQ(heap.free_bytes(), Bytes(0));
  EXPECT_EQ(heap.largest_free(), Bytes(0));
  EXPECT_EQ(heap.Allocate(Bytes(1), Bytes(1)), std::nullopt);
  EXPECT_EQ(heap.Free(Bytes(0)), MiB(2));
  EXPECT_TRUE(heap.empty());
  heap.CheckInvariants();
}

TEST(RangeHeap, FreedNeighboursAreOneRangeAgainInEveryOrder) {
  std::vector<size_t> order = {0, 1, 2, 3};
  do {
    RangeHeap heap(KiB(4), KiB(1));
    std::vector<Bytes> starts;
    for (int i = 0; i < 4; ++i) starts.push_back(*heap.Allocate(KiB(1), Bytes(1)));
    for (const size_t i : order) {
      ASSERT_EQ(heap.Free(starts[i]), KiB(1));
      heap.CheckInvariants();
    }
    ASSERT_EQ(heap.largest_free(), KiB(4));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(RangeHeap, NothingTakesOneGranule) {
  RangeHeap heap(KiB(1));
  EXPECT_TRUE(heap.Allocate(Bytes(0), Bytes(1)));
  EXPECT_EQ(heap.free_bytes(), Bytes(768));
}

TEST(RangeHeap, AGapOfTheRightLengthIsUsedBeforeALongerRangeIsBroken) {
  for (const uint64_t units : {1u, 5u, 31u, 33u, 100u, 1000u}) {
    RangeHeap heap(MiB(4));
    const Bytes length(units * 256);
    const Bytes gap = *heap.Allocate(length, Bytes(1));
    ASSERT_TRUE(heap.Allocate(Bytes(256), Bytes(1)));
    ASSERT_TRUE(heap.Free(gap));
    EXPECT_EQ(heap.Allocate(length, Bytes(1)), gap) << units;
  }
}

TEST(RangeHeap, AlignedRequestFindsTheOnlyPlaceThereIs) {
  RangeHeap heap(MiB(2));
  ASSERT_EQ(heap.Allocate(Bytes(256), Bytes(256)), Bytes(0));
  EXPECT_EQ(heap.Allocate(MiB(1), MiB(1)), MiB(1));
  EXPECT_EQ(heap.Allocate(MiB(1) - Bytes(256), MiB(1)), std::nullopt) << "room, but at 256";
  EXPECT_EQ(heap.Allocate(MiB(1) - Bytes(256), Bytes(256)), Bytes(256));
  EXPECT_EQ(heap.free_bytes(), Bytes(0));
  heap.CheckInvariants();
}

TEST(RangeHeap, AlignedRequestLooksPastManyGapsThatAreLongEnoughButMisplaced) {
  // Gaps of 2 KiB that start at odd multiples of 1 KiB hold no 2 KiB at a multiple of 2 KiB, except
  // one.
  RangeHeap heap(KiB(4 * 100 + 3), Bytes(256));
  std::vector<Bytes> gaps;
  ASSERT_TRUE(heap.Allocate(KiB(1), Bytes(1)));
  for (int i = 0; i < 100; ++i) {
    gaps.push_back(*heap.Allocate(KiB(2), Bytes(1)));
    ASSERT_TRUE(heap.Allocate(i == 60 ? KiB(3) : KiB(2), Bytes(1)));
  }
  ASSERT_TRUE(heap.Allocate(heap.free_bytes(), Bytes(1)));
  for (size_t i = 0; i <= 60; ++i) ASSERT_TRUE(heap.Free(gaps[i]));
  EXPECT_EQ(heap.Allocate(KiB(2), KiB(2)), std::nullopt);
  for (size_t i = 61; i < gaps.size(); ++i) ASSERT_TRUE(heap.Free(gaps[i]));
  EXPECT_TRUE(heap.Allocate(KiB(2), KiB(2)));
  heap.CheckInvariants();
}

TEST(RangeHeap, AlignmentBeyondTheBaseLeavesOffsetZero) {
  RangeHeap heap(MiB(2));
  EXPECT_EQ(heap.Allocate(KiB(1), Bytes(uint64_t{1} << 63)), Bytes(0));
  EXPECT_EQ(heap.Allocate(KiB(1), Bytes(uint64_t{1} << 63)), std::nullopt);
  EXPECT_EQ(heap.Allocate(KiB(1), GiB(1)), std::nullopt);
  EXPECT_EQ(heap.Allocate(Bytes(~uint64_t{0}), Bytes(1)), std::nullopt);
}

TEST(RangeHeap, TheLargestBaseIsServedExactly) {
  const Bytes size(uint64_t{0xFFFFFFFE} * 256);
  RangeHeap heap(size);
  EXPECT_EQ(heap.largest_free(), size);
  EXPECT_EQ(heap.Allocate(size - Bytes(256), Bytes(256)), Bytes(0));
  EXPECT_EQ(heap.Allocate(Bytes(256), Bytes(256)), size - Bytes(256));
  EXPECT_EQ(heap.Free(Bytes(0)), size - Bytes(256));
  EXPECT_EQ(heap.Allocate(GiB(1), GiB(512)), Bytes(0));
  EXPECT_EQ(heap.Allocate(GiB(1), GiB(512)), GiB(512));
  heap.CheckInvariants();
}

TEST(RangeHeap, OnlyTheStartOfALiveRangeCanBeFreed) {
  RangeHeap heap(MiB(1));
  const Bytes start = *heap.Allocate(KiB(4), KiB(64));
  EXPECT_EQ(heap.Free(start + Bytes(256)), std::nullopt) << "inside";
  EXPECT_EQ(heap.Free(start + Bytes(1)), std::nullopt) << "between granules";
  EXPECT_EQ(heap.Free(KiB(512)), std::nullopt) << "free";
  EXPECT_EQ(heap.Free(MiB(1)), std::nullopt) << "the end";
  EXPECT_EQ(heap.Free(Bytes(~uint64_t{0})), std::nullopt);
  EXPECT_EQ(heap.Free(start + Bytes(uint64_t{256} << 32)), std::nullopt) << "equal in 32 bits";
  EXPECT_EQ(heap.Free(start), KiB(4));
  EXPECT_EQ(heap.Free(start), std::nullopt) << "twice";
  EXPECT_TRUE(heap.empty());
}

TEST(RangeHeapDeathTest, ImpossibleShapesAbort) {
  EXPECT_DEATH(RangeHeap(Bytes(0)), "size");
  EXPECT_DEATH(RangeHeap(Bytes(300)), "size");
  EXPECT_DEATH(RangeHeap(KiB(1), Bytes(96)), "granule");
  EXPECT_DEATH(RangeHeap(Bytes(uint64_t{1} << 41)), "size");
  RangeHeap heap(KiB(1));
  EXPECT_DEATH(heap.Allocate(Bytes(1), Bytes(3)), "IsPowerOfTwo");
}

struct Load {
  uint64_t granule;
  uint64_t size;
  uint64_t longest;  // requests, in bytes
};

class RandomRanges : public testing::TestWithParam<uint64_t> {
 protected:
  void Step(int step);

  std::mt19937_64 random_{GetParam()};
  // Crowded with short ranges, crowded with long ones, hardly used.
  const Load load_ = std::vector<Load>{{256, 256 * 300, 256 * 20},
                                       {16 << 10, 2 << 20, 1 << 20},
                                       {4096, 64 << 20, 4 << 20}}[GetParam() % 3];
  RangeHeap heap_{Bytes(load_.size), Bytes(load_.granule)};
  PlainRanges plain_{load_.size};
};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomRanges, testing::Range<uint64_t>(1, 22));

void RandomRanges::Step(int step) {
  const uint64_t length = 1 + random_() % (1 + random_() % load_.longest);
  const uint64_t alignment = random_() % 2 == 0 ? 1 : uint64_t{1} << (random_() % 22);
  const uint64_t rounded = (length + load_.granule - 1) / load_.granule * load_.granule;
  const bool allocate = random_() % 100 < (step / 1000 % 2 == 0 ? 65u : 35u);
  if (allocate) {
    const std::optional<Bytes> start = heap_.Allocate(Bytes(length), Bytes(alignment));
    ASSERT_EQ(start.has_value(), plain_.CanHold(rounded, std::max(alignment, load_.granule)));
    if (!start) return;
    ASSERT_EQ(start->value() % alignment, 0u);
    ASSERT_TRUE(plain_.IsFree(start->value(), rounded));
    plain_.live().emplace(start->value(), rounded);
  } else if (random_() % 4 > 0 && !plain_.live().empty()) {
    auto victim = plain_.live().lower_bound(random_() % load_.size);
    if (victim == plain_.live().end()) victim = plain_.live().begin();
    ASSERT_EQ(heap_.Free(Bytes(victim->first)), Bytes(victim->second));
    plain_.live().erase(victim);
  } else {
    const uint64_t anywhere = random_() % (2 * load_.size / load_.granule) * load_.granule;
    const auto victim = plain_.live().find(anywhere);
    const bool live = victim != plain_.live().end();
    ASSERT_EQ(heap_.Free(Bytes(anywhere)).has_value(), live);
    if (live) plain_.live().erase(victim);
  }
}

TEST_P(RandomRanges, AgreeWithAPlainMapAndJoinToOneRangeInTheEnd) {
  SCOPED_TRACE(testing::Message() << "seed " << GetParam());
  for (int step = 0; step < 20000; ++step) {
    Step(step);
    if (HasFatalFailure()) FAIL() << "at step " << step;
    heap_.CheckInvariants();
    ASSERT_EQ(heap_.largest_free(), Bytes(plain_.Longest())) << "step " << step;
  }
  for (const auto& [start, length] : plain_.live())
    ASSERT_EQ(heap_.Free(Bytes(start)), Bytes(length));
  heap_.CheckInvariants();
  EXPECT_TRUE(heap_.empty());
  EXPECT_EQ(heap_.largest_free(), Bytes(load_.size));
  EXPECT_EQ(heap_.Allocate(Bytes(load_.size), Bytes(1)), Bytes(0));
}

}  // namespace
}  // namespace tenure::heap
