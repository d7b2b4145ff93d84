#include "common/heap/size_classes.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "gtest/gtest.h"

#include "common/heap/slab_shape.h"

namespace tenure::heap {
namespace {

// The definition of the table: the first class that fits, from the smallest on.
std::optional<SizeClass> FirstThatFits(Bytes size, Bytes alignment) {
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    const Bytes block = BlockSize(SizeClass{index});
    if (block >= size && block.value() % alignment.value() == 0) return SizeClass{index};
  }
  return std::nullopt;
}

TEST(SizeClasses, AscendInMultiplesOf256AndContainTheRoundSizes) {
  bool has_1k = false;
  bool has_64k = false;
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    const Bytes block = BlockSize(SizeClass{index});
    EXPECT_EQ(block.value() % 256, 0u);
    if (index > 0) {
      EXPECT_GT(block, BlockSize(SizeClass{static_cast<uint8_t>(index - 1)}));
    }
    has_1k = has_1k || block == KiB(1);
    has_64k = has_64k || block == KiB(64);
  }
  EXPECT_TRUE(has_1k);
  EXPECT_TRUE(has_64k);
  EXPECT_EQ(BlockSize(SizeClass{kSizeClassCount - 1}), MiB(1));
}

TEST(SizeClasses, EverySizeGetsTheSmallestClassThatHoldsIt) {
  uint8_t expected = 0;
  for (uint64_t size = 1; size <= kMaxSmallBlock.value(); ++size) {
    while (BlockSize(SizeClass{expected}) < Bytes(size)) ++expected;
    const std::optional<SizeClass> actual = ClassFor(Bytes(size), kMinAlignment);
    ASSERT_TRUE(actual) << size;
    ASSERT_EQ(actual->index, expected) << size;
  }
}

TEST(SizeClasses, RoundingWastesLessThan256BytesBelow2KiBAndLessThanAnEighthAbove) {
  for (uint64_t size = 1; size <= kMaxSmallBlock.value(); ++size) {
    const uint64_t block = BlockSize(*ClassFor(Bytes(size), kMinAlignment)).value();
    if (size <= 2048) {
      ASSERT_LT(block - size, 256u) << size;
    } else {
      ASSERT_LT((block - size) * 8, size) << size;
    }
  }
}

TEST(SizeClasses, EveryAlignmentGetsTheSmallestClassThatIsAMultipleOfIt) {
  std::vector<uint64_t> sizes;
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    const uint64_t block = BlockSize(SizeClass{index}).value();
    sizes.insert(sizes.end(), {block - 1, block, block + 1});
  }
  for (uint64_t size = 1; size <= kMaxSmallBlock.value(); size += 641) sizes.push_back(size);
  for (uint64_t alignment = 256; alignment <= kMaxSmallBlock.value(); alignment *= 2) {
    for (const uint64_t size : sizes) {
      ASSERT_EQ(ClassFor(Bytes(size), Bytes(alignment)),
                FirstThatFits(Bytes(size), Bytes(alignment)))
          << size << " at " << alignment;
    }
  }
}

TEST(SizeClasses, AlignmentBelow256CountsAs256) {
  EXPECT_EQ(ClassFor(Bytes(257), Bytes(1)), ClassFor(Bytes(257), Bytes(256)));
  EXPECT_EQ(ClassFor(Bytes(256), Bytes(128)), SizeClass{0});
}

TEST(SizeClasses, NothingTakesTheSmallestBlock) {
  EXPECT_EQ(ClassFor(Bytes(0), kMinAlignment), SizeClass{0});
}

TEST(SizeClasses, AboveOneMiBThereIsNoClass) {
  EXPECT_FALSE(ClassFor(MiB(1) + Bytes(1), kMinAlignment));
  EXPECT_FALSE(ClassFor(Bytes(1), MiB(2)));
  EXPECT_FALSE(ClassFor(Bytes(~uint64_t{0}), kMinAlignment));
  EXPECT_FALSE(ClassFor(Bytes(1), Bytes(uint64_t{1} << 63)));
  EXPECT_TRUE(ClassFor(MiB(1), MiB(1)));
}

TEST(SizeClassesDeathTest, AlignmentThatIsNoPowerOfTwoAborts) {
  EXPECT_DEATH(ClassFor(Bytes(1), Bytes(768)), "IsPowerOfTwo");
  EXPECT_DEATH(ClassFor(Bytes(1), Bytes(0)), "IsPowerOfTwo");
}

TEST(SlabShapes, HoldAtLeastOneBlockAndFitTwiceInARegionOf2MiB) {
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    const uint64_t block = BlockSize(SizeClass{index}).value();
    const SlabShape shape = kSlabShapes[index];
    const uint64_t bytes = shape.units * kSpanUnit.value();
    EXPECT_GE(shape.blocks, 1u) << block;
    EXPECT_LE(shape.blocks, Slab::kMaxBlocks) << block;
    EXPECT_LE(shape.blocks * block, bytes) << block;
    EXPECT_LE(2 * bytes, MiB(2).value()) << block;
    EXPECT_LE((bytes - shape.blocks * block) * 100, bytes * 7) << block << ": too much unused";
  }
}

}  // namespace
}  // namespace tenure::heap
