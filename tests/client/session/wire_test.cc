#include "client/session/wire.h"

#include <gtest/gtest.h>

namespace tenure::testing {
namespace {

TEST(Wire, EveryFieldOfASegmentsTensorSurvivesTheWireExceptItsPointer) {
  const SegmentTensor tensor = {"w", "BF16", {2, 0, 5}, 3, Bytes(512), Bytes(7), 0xabc};
  const SegmentTensor read = FromWire(ToWire(tensor));
  EXPECT_EQ(read.name, "w");
  EXPECT_EQ(read.dtype, "BF16");
  EXPECT_EQ(read.shape, std::vector<uint64_t>({2, 0, 5}));
  EXPECT_EQ(read.block, 3u);
  EXPECT_EQ(read.offset, Bytes(512));
  EXPECT_EQ(read.size, Bytes(7));
  EXPECT_EQ(read.pointer, 0u) << "an address means nothing in another process";
}

TEST(Wire, MemoryKindsAndPlacementsHaveTheirOwnNumbers) {
  for (const MemoryKind kind : kMemoryKinds) EXPECT_EQ(FromWire(ToWire(kind)), kind);
  EXPECT_EQ(ToWire(Placement::kDefault), v1::PLACEMENT_UNSPECIFIED);
  EXPECT_EQ(ToWire(Placement::kPool), v1::PLACEMENT_POOL);
  EXPECT_EQ(ToWire(Placement::kDirect), v1::PLACEMENT_DIRECT);
}

}  // namespace
}  // namespace tenure::testing
