#include "common/heap/slab.h"

#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace tenure::heap {
namespace {

TEST(Slab, HandsOutEveryBlockOnceFromTheLowestUp) {
  for (const uint32_t capacity : {1u, 2u, 63u, 64u, 65u, 128u, 200u, 255u, 256u}) {
    Slab slab(KiB(64), Bytes(768), capacity);
    EXPECT_TRUE(slab.empty());
    for (uint32_t i = 0; i < capacity; ++i) {
      ASSERT_FALSE(slab.full());
      ASSERT_EQ(slab.Take(), KiB(64) + Bytes(uint64_t{i} * 768));
      slab.CheckInvariants();
    }
    EXPECT_TRUE(slab.full());
    EXPECT_FALSE(slab.empty());
  }
}

TEST(Slab, ReusesTheLowestFreeBlock) {
  Slab slab(Bytes(0), KiB(1), 100);
  for (int i = 0; i < 100; ++i) slab.Take();
  EXPECT_TRUE(slab.Free(KiB(90)));
  EXPECT_TRUE(slab.Free(KiB(7)));
  EXPECT_EQ(slab.Take(), KiB(7));
  EXPECT_EQ(slab.Take(), KiB(90));
}

TEST(Slab, RefusesWhatIsNotALiveBlock) {
  Slab slab(KiB(16), Bytes(512), 32);
  EXPECT_FALSE(slab.Free(KiB(16))) << "never taken";
  const Bytes block = slab.Take();
  EXPECT_FALSE(slab.Free(block + Bytes(1)));
  EXPECT_FALSE(slab.Free(block + Bytes(256))) << "inside the block";
  EXPECT_FALSE(slab.Free(block + Bytes(512))) << "the free neighbour";
  EXPECT_FALSE(slab.Free(Bytes(0))) << "before the slab";
  EXPECT_FALSE(slab.Free(KiB(32))) << "after the slab";
  EXPECT_FALSE(slab.Free(Bytes(~uint64_t{0})));
  EXPECT_EQ(slab.free_blocks(), 31u);
  EXPECT_TRUE(slab.Free(block));
  EXPECT_FALSE(slab.Free(block)) << "twice";
  EXPECT_TRUE(slab.empty());
  slab.CheckInvariants();
}

TEST(Slab, FarAwayInALargeRegionItsOffsetsAreExact) {
  const Bytes start = GiB(512) + KiB(16);
  Slab slab(start, MiB(1), 3);
  EXPECT_EQ(slab.Take(), start);
  EXPECT_EQ(slab.Take(), start + MiB(1));
  EXPECT_TRUE(slab.Free(start));
  EXPECT_FALSE(slab.Free(KiB(16))) << "the same offset without the high bits";
}

class RandomSlab : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomSlab, testing::Range<uint64_t>(1, 21));

TEST_P(RandomSlab, AgreesWithASetOfLiveBlocks) {
  std::mt19937_64 random(GetParam());
  const uint32_t capacity = static_cast<uint32_t>(1 + random() % 256);
  const uint64_t block_size = 256 * (1 + random() % 40);
  const Bytes start = KiB(16 * (random() % 1000));
  Slab slab(start, Bytes(block_size), capacity);
  std::set<uint32_t> live;
  for (int step = 0; step < 20000; ++step) {
    // The load alternates between nearly empty and nearly full.
    const bool take = random() % 100 < (step / 500 % 2 == 0 ? 70u : 30u);
    if (take && live.size() < capacity) {
      uint32_t lowest = 0;
      while (live.contains(lowest)) ++lowest;
      ASSERT_EQ(slab.Take(), start + Bytes(lowest * block_size)) << "step " << step;
      live.insert(lowest);
    } else {
      const uint32_t block = static_cast<uint32_t>(random() % (capacity + 1));
      ASSERT_EQ(slab.Free(start + Bytes(block * block_size)), live.erase(block) == 1)
          << "step " << step;
    }
    slab.CheckInvariants();
    ASSERT_EQ(slab.free_blocks(), capacity - live.size());
    ASSERT_EQ(slab.full(), live.size() == capacity);
    ASSERT_EQ(slab.empty(), live.empty());
  }
}

TEST(SlabDeathTest, ImpossibleShapesAbort) {
  EXPECT_DEATH(Slab(Bytes(0), Bytes(256), 0), "capacity");
  EXPECT_DEATH(Slab(Bytes(0), Bytes(256), 257), "capacity");
  EXPECT_DEATH(Slab(Bytes(0), Bytes(300), 1), "block_size");
  EXPECT_DEATH(Slab(Bytes(100), Bytes(256), 1), "start");
}

}  // namespace
}  // namespace tenure::heap
