#include "common/heap/block_heap.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

#include "tests/common/heap/host_allocations.h"

namespace tenure::heap {
namespace {

// A heap whose caller adds a region whenever there is no room, as the owner of a session does.
class GrowingHeap {
 public:
  Place Allocate(Bytes size, Bytes alignment = kMinAlignment) {
    std::optional<Place> place = heap.Allocate(size, alignment);
    if (!place) {
      heap.AddRegion(next_key++, heap.NextRegionSize());
      place = heap.Allocate(size, alignment);
    }
    EXPECT_TRUE(place) << "no room in a fresh region";
    return place.value_or(Place{});
  }

  // Removes a region as soon as it is empty.
  void Free(const Place& place) {
    const FreeResult result = heap.Free(place.region, place.offset);
    ASSERT_NE(result, FreeResult::kNotABlock);
    if (result == FreeResult::kRegionEmptied) heap.RemoveRegion(place.region);
  }

  BlockHeap heap;
  uint32_t next_key = 1;
};

std::vector<Place> FillRegion(BlockHeap& heap, Bytes size) {
  std::vector<Place> places;
  for (std::optional<Place> place = heap.Allocate(size); place; place = heap.Allocate(size)) {
    places.push_back(*place);
  }
  return places;
}

TEST(BlockHeap, WithoutRegionsThereIsNoRoom) {
  BlockHeap heap;
  EXPECT_EQ(heap.Allocate(Bytes(1)), std::nullopt);
  EXPECT_EQ(heap.Free(0, Bytes(0)), FreeResult::kNotABlock);
  EXPECT_TRUE(heap.EmptyRegions().empty());
  EXPECT_EQ(heap.NextRegionSize(), MiB(2));
  heap.CheckInvariants();
}

TEST(BlockHeap, ASmallBlockNeedsNoMoreThanOneRegionOf2MiB) {
  GrowingHeap grown;
  const Place place = grown.Allocate(Bytes(300));
  EXPECT_EQ(place, (Place{.region = 1, .offset = Bytes(0), .size = Bytes(512)}));
  EXPECT_EQ(grown.heap.region_bytes(), MiB(2));
  EXPECT_EQ(grown.heap.allocated_bytes(), Bytes(512));
}

TEST(BlockHeap, TheLargestBlockFitsTwiceInARegionOf2MiB) {
  BlockHeap heap;
  heap.AddRegion(7, MiB(2));
  EXPECT_EQ(FillRegion(heap, MiB(1)).size(), 2u);
  EXPECT_EQ(heap.allocated_bytes(), heap.region_bytes());
}

TEST(BlockHeap, EveryClassFillsARegionToTheLastTenth) {
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    BlockHeap heap;
    heap.AddRegion(1, MiB(2));
    const uint64_t block = BlockSize(SizeClass{index}).value();
    const uint64_t ideal = MiB(2).value() / block;
    EXPECT_GE(FillRegion(heap, Bytes(block)).size() * 10, ideal * 9) << block;
    heap.CheckInvariants();
  }
}

TEST(BlockHeap, BlocksOfManySizesShareOneRegion) {
  GrowingHeap grown;
  for (uint64_t size = 256; size <= (64 << 10); size *= 2) grown.Allocate(Bytes(size));
  EXPECT_EQ(grown.heap.region_bytes(), MiB(2));
  EXPECT_EQ(grown.heap.Stats().pools.size(), 9u);
}

TEST(BlockHeap, ASpanGivenBackByOneClassServesAnother) {
  BlockHeap heap;
  heap.AddRegion(1, MiB(2));
  for (const Place& place : FillRegion(heap, KiB(1))) heap.Free(place.region, place.offset);
  const std::vector<Place> large = FillRegion(heap, MiB(1));
  EXPECT_EQ(large.size(), 2u) << "the spare slab of another class stood in the way";
  heap.CheckInvariants();
}

TEST(BlockHeap, SlabsKeptEmptyByOtherClassesMakeWayForTheLastRequest) {
  BlockHeap heap;
  heap.AddRegion(1, MiB(2));
  ASSERT_TRUE(heap.Allocate(Bytes(256)));
  const Place a = *heap.Allocate(KiB(256));
  const Place b = *heap.Allocate(MiB(1));
  heap.Free(a.region, a.offset);
  heap.Free(b.region, b.offset);
  EXPECT_TRUE(heap.Allocate(KiB(960)));
  heap.CheckInvariants();
}

TEST(BlockHeap, EveryAlignmentUpToOneMiBIsKept) {
  GrowingHeap grown;
  for (int round = 0; round < 3; ++round) {
    for (uint64_t alignment = 1; alignment <= MiB(1).value(); alignment *= 2) {
      for (const uint64_t size : {1u, 5000u, 70000u, 600000u}) {
        const Place place = grown.Allocate(Bytes(size), Bytes(alignment));
        EXPECT_EQ(place.offset.value() % alignment, 0u) << size << " at " << alignment;
        EXPECT_GE(place.size, Bytes(size));
      }
    }
    grown.heap.CheckInvariants();
  }
}

TEST(BlockHeap, WhatIsNotALiveBlockIsRefusedAndChangesNothing) {
  BlockHeap heap;
  heap.AddRegion(3, MiB(2));
  const Place place = *heap.Allocate(KiB(4));
  const Place other = *heap.Allocate(KiB(4));
  EXPECT_EQ(heap.Free(4, place.offset), FreeResult::kNotABlock) << "unknown region";
  EXPECT_EQ(heap.Free(3, place.offset + KiB(1)), FreeResult::kNotABlock) << "inside the block";
  EXPECT_EQ(heap.Free(3, place.offset + Bytes(1)), FreeResult::kNotABlock) << "odd";
  EXPECT_EQ(heap.Free(3, MiB(1)), FreeResult::kNotABlock) << "free span";
  EXPECT_EQ(heap.Free(3, MiB(2)), FreeResult::kNotABlock) << "the region's end";
  EXPECT_EQ(heap.Free(3, Bytes(~uint64_t{0})), FreeResult::kNotABlock);
  EXPECT_EQ(heap.allocated_bytes(), KiB(8));
  EXPECT_EQ(heap.Free(3, place.offset), FreeResult::kFreed);
  EXPECT_EQ(heap.Free(3, place.offset), FreeResult::kNotABlock) << "twice";
  EXPECT_EQ(heap.Free(3, other.offset), FreeResult::kRegionEmptied);
  EXPECT_EQ(heap.Free(3, other.offset), FreeResult::kNotABlock) << "twice, in an empty region";
  heap.CheckInvariants();
  heap.RemoveRegion(3);
  EXPECT_EQ(heap.Free(3, other.offset), FreeResult::kNotABlock) << "in a region that was removed";
}

TEST(BlockHeap, EmptiedRegionsAreNamedAndCanBeRemovedInAnyOrder) {
  GrowingHeap grown;
  std::vector<Place> places;
  for (int i = 0; i < 40; ++i) places.push_back(grown.Allocate(KiB(500)));
  const size_t regions = grown.next_key - 1;
  ASSERT_GE(regions, 3u);
  for (const Place& place : places) grown.heap.Free(place.region, place.offset);
  std::vector<uint32_t> empty = grown.heap.EmptyRegions();
  EXPECT_EQ(empty.size(), regions);
  std::swap(empty.front(), empty.back());
  for (const uint32_t key : empty) {
    grown.heap.RemoveRegion(key);
    grown.heap.CheckInvariants();
  }
  EXPECT_EQ(grown.heap.region_bytes(), Bytes(0));
  EXPECT_TRUE(grown.heap.Stats().pools.empty());
}

TEST(BlockHeap, AFullHeapHasRoomAgainAfterOneFree) {
  BlockHeap heap;
  heap.AddRegion(1, MiB(2));
  const std::vector<Place> places = FillRegion(heap, KiB(20));
  ASSERT_EQ(heap.Allocate(KiB(20)), std::nullopt);
  const Place victim = places[places.size() / 2];
  EXPECT_EQ(heap.Free(victim.region, victim.offset), FreeResult::kFreed);
  EXPECT_EQ(heap.Allocate(KiB(20)), victim);
  EXPECT_EQ(heap.Allocate(KiB(20)), std::nullopt);
}

TEST(BlockHeap, StatsCountTheBlocksOfEachClass) {
  BlockHeap heap;
  heap.AddRegion(1, MiB(2));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(heap.Allocate(KiB(1)));
  ASSERT_TRUE(heap.Allocate(KiB(64)));
  const BlockHeapStats stats = heap.Stats();
  ASSERT_EQ(stats.pools.size(), 2u);
  EXPECT_EQ(stats.pools[0].block_size, KiB(1));
  EXPECT_EQ(stats.pools[0].allocated_blocks, 5u);
  EXPECT_EQ(stats.pools[0].free_blocks, stats.pools[0].total_blocks - 5);
  EXPECT_EQ(stats.pools[1].block_size, KiB(64));
  EXPECT_EQ(stats.pools[1].allocated_blocks, 1u);
  EXPECT_EQ(stats.region_bytes, MiB(2));
  EXPECT_EQ(stats.allocated_bytes, KiB(69));
}

TEST(BlockHeap, RegionWishesDoubleWithTheHeapUpTo32MiB) {
  BlockHeap heap;
  std::vector<uint64_t> wishes;
  for (uint32_t key = 0; key < 9; ++key) {
    wishes.push_back(heap.NextRegionSize().value() >> 20);
    heap.AddRegion(key, heap.NextRegionSize());
  }
  EXPECT_EQ(wishes, (std::vector<uint64_t>{2, 2, 4, 8, 16, 32, 32, 32, 32}));
}

TEST(BlockHeap, AConfiguredLimitDecidesWhatIsSmall) {
  const BlockHeap heap(KiB(64));
  EXPECT_TRUE(heap.IsSmall(KiB(64)));
  EXPECT_FALSE(heap.IsSmall(KiB(64) + Bytes(1)));
  EXPECT_FALSE(heap.IsSmall(Bytes(1), KiB(128))) << "its block would be 128 KiB";
  EXPECT_TRUE(BlockHeap().IsSmall(MiB(1), MiB(1)));
  EXPECT_FALSE(BlockHeap().IsSmall(MiB(1) + Bytes(1)));
}

TEST(BlockHeap, ALoneBlockLeavesALateRegionAloneWhileAnEarlierOneHasRoom) {
  BlockHeap heap;
  heap.AddRegion(1, MiB(2));
  const std::vector<Place> first = FillRegion(heap, KiB(256));
  heap.AddRegion(2, MiB(2));
  const Place late = *heap.Allocate(KiB(1));
  ASSERT_EQ(late.region, 2u);
  EXPECT_EQ(heap.Free(late.region, late.offset), FreeResult::kRegionEmptied);
  EXPECT_EQ(heap.Allocate(KiB(1))->region, 2u) << "there is no other room";
  heap.Free(late.region, late.offset);
  for (size_t i = 1; i < first.size(); ++i) heap.Free(first[i].region, first[i].offset);
  EXPECT_EQ(heap.Allocate(KiB(1))->region, 1u) << "the spare slab of region 2 was used";
  heap.CheckInvariants();
}

TEST(BlockHeap, ChurnAfterAShrinkEmptiesTheLaterRegions) {
  std::mt19937_64 random(1);
  GrowingHeap grown;
  std::vector<Place> live;
  const auto free_one = [&] {
    std::swap(live[random() % live.size()], live.back());
    grown.Free(live.back());
    live.pop_back();
  };
  for (int i = 0; i < 20000; ++i) live.push_back(grown.Allocate(KiB(4)));
  while (live.size() > 5000) free_one();
  const Bytes after_shrink = grown.heap.region_bytes();
  for (int i = 0; i < 60000; ++i) {
    free_one();
    live.push_back(grown.Allocate(KiB(4)));
  }
  EXPECT_GE(after_shrink, MiB(76)) << "random frees alone empty hardly any region";
  EXPECT_LE(grown.heap.region_bytes(), MiB(32)) << "for 20 MiB of blocks";
  grown.heap.CheckInvariants();
}

// Sizes as recorded from inference: half of them within a factor of four, a long tail to both
// sides.
Bytes SkewedSize(std::mt19937_64& random) {
  const double size = std::exp(std::normal_distribution<double>(9.5, 2)(random));
  return Bytes(static_cast<uint64_t>(std::clamp(size, 1.0, 1048576.0)));
}

TEST(BlockHeap, ASkewedLoadWastesLittle) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    GrowingHeap grown;
    std::vector<Place> live;
    for (int i = 0; i < 6000; ++i) live.push_back(grown.Allocate(SkewedSize(random)));
    for (int i = 0; i < 20000; ++i) {
      Place& place = live[random() % live.size()];
      grown.Free(place);
      place = grown.Allocate(SkewedSize(random));
    }
    grown.heap.CheckInvariants();
    EXPECT_LE(grown.heap.region_bytes().value() * 100, grown.heap.allocated_bytes().value() * 140);
  }
}

TEST(BlockHeap, AFewBlocksOfManySizesDoNotHoldASlabOfEach) {
  Bytes regions;
  Bytes allocated;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    GrowingHeap grown;
    for (int i = 0; i < 100; ++i) grown.Allocate(SkewedSize(random));
    regions += grown.heap.region_bytes();
    allocated += grown.heap.allocated_bytes();
  }
  EXPECT_LE(regions.value(), 2 * allocated.value());
}

TEST(BlockHeap, BlocksOfASlabAtHandTakeNoHostMemory) {
  std::mt19937_64 random(1);
  GrowingHeap grown;
  std::vector<Place> live;
  for (int i = 0; i < 5000; ++i) live.push_back(grown.Allocate(Bytes(uint64_t{256} << (i % 8))));
  const uint64_t before = HostAllocations();
  EXPECT_GT(before, 0u);
  for (int i = 0; i < 100000; ++i) {
    const size_t victim = random() % live.size();
    const Place place = live[victim];
    grown.heap.Free(place.region, place.offset);
    live[victim] = *grown.heap.Allocate(place.size);
  }
  // The queues of open slabs may still grow to a new peak. They double, so they allocate a few
  // times.
  EXPECT_LE(HostAllocations() - before, 64u);
}

TEST(BlockHeapDeathTest, RemovingARegionWithLiveBlocksAborts) {
  BlockHeap heap;
  heap.AddRegion(1, MiB(2));
  ASSERT_TRUE(heap.Allocate(Bytes(1)));
  EXPECT_DEATH(heap.RemoveRegion(1), "live_blocks == 0");
  EXPECT_DEATH(heap.RemoveRegion(2), "found");
}

TEST(BlockHeapDeathTest, MisuseByTheOwnerAborts) {
  BlockHeap heap(KiB(64));
  heap.AddRegion(1, MiB(2));
  EXPECT_DEATH(heap.AddRegion(1, MiB(2)), "slot_of_key_");
  EXPECT_DEATH(heap.AddRegion(2, MiB(3)), "kRegionUnit");
  EXPECT_DEATH(heap.AddRegion(2, Bytes(0)), "size");
  EXPECT_DEATH(heap.Allocate(KiB(65)), "size_class");
  EXPECT_DEATH(BlockHeap(MiB(2)), "max_block");
}

}  // namespace
}  // namespace tenure::heap
