#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "client/dtype.h"
#include "client/tensor.h"

namespace tenure {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(TensorLayout, IsContiguousWithTheLastDimensionFastest) {
  const absl::StatusOr<TensorLayout> layout = TensorLayout::Make({2, 3, 4}, DType::kF32);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->strides(), absl::MakeConstSpan({int64_t{12}, int64_t{4}, int64_t{1}}));
  EXPECT_EQ(layout->elements(), 24);
  EXPECT_EQ(layout->size(), Bytes(96));
  EXPECT_EQ(layout->ToString(), "f32[2,3,4]");
}

TEST(TensorLayout, ScalarIsOneElement) {
  const absl::StatusOr<TensorLayout> layout = TensorLayout::Make({}, DType::kF64);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->elements(), 1);
  EXPECT_EQ(layout->size(), Bytes(8));
  EXPECT_EQ(layout->ToString(), "f64[]");
}

TEST(TensorLayout, LargestSizeThatFitsIsGranted) {
  EXPECT_TRUE(TensorLayout::Make({kMax}, DType::kU8).ok());
  EXPECT_TRUE(TensorLayout::Make({kMax / 8}, DType::kF64).ok());
}

TEST(TensorLayout, ShapesThatCannotBeAreRefused) {
  const std::vector<std::vector<int64_t>> shapes = {{0},
                                                    {-1},
                                                    {3, 0, 5},
                                                    {2, -2, -2},
                                                    {kMax, 2},
                                                    {kMax / 4 + 1},
                                                    {1LL << 32, 1LL << 32},
                                                    {std::numeric_limits<int64_t>::min()},
                                                    std::vector<int64_t>(65, 1)};
  for (const std::vector<int64_t>& shape : shapes) {
    EXPECT_TRUE(absl::IsInvalidArgument(TensorLayout::Make(shape, DType::kF32).status()))
        << ::testing::PrintToString(shape);
  }
}

TEST(TensorLayout, RefusalNamesTheDimension) {
  EXPECT_EQ(TensorLayout::Make({4, 0}, DType::kI8).status().message(),
            "tensor i8[4,0]: dimension 1 is 0; make it 1 or more");
}

TEST(DTypes, ItemSizesAreThoseOfTheHostTypes) {
  EXPECT_EQ(ItemSize(kDTypeOf<bool>), Bytes(sizeof(bool)));
  EXPECT_EQ(ItemSize(kDTypeOf<uint8_t>), Bytes(sizeof(uint8_t)));
  EXPECT_EQ(ItemSize(kDTypeOf<int8_t>), Bytes(sizeof(int8_t)));
  EXPECT_EQ(ItemSize(kDTypeOf<int16_t>), Bytes(sizeof(int16_t)));
  EXPECT_EQ(ItemSize(kDTypeOf<int32_t>), Bytes(sizeof(int32_t)));
  EXPECT_EQ(ItemSize(kDTypeOf<int64_t>), Bytes(sizeof(int64_t)));
  EXPECT_EQ(ItemSize(kDTypeOf<float>), Bytes(sizeof(float)));
  EXPECT_EQ(ItemSize(kDTypeOf<double>), Bytes(sizeof(double)));
  EXPECT_EQ(ItemSize(DType::kF16), Bytes(2));
  EXPECT_EQ(ItemSize(DType::kBF16), Bytes(2));
  EXPECT_EQ(Name(DType::kBF16), "bf16");
}

}  // namespace
}  // namespace tenure
