// Which region a shelf gives out.

#include "server/memory/shelf.h"

#include <utility>
#include <vector>

#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {
namespace {

class ShelfTest : public HeapTest {
 protected:
  ~ShelfTest() override {
    for (Region& region : shelf_.TakeAll()) Return(std::move(region));
  }
  RegionId Put(Bytes size) {
    absl::StatusOr<Region> region = heap_.TakeFromDriver(size, Tenant{1000}, MemoryKind::kCudaIpc);
    TENURE_CHECK(region.ok());
    const RegionId id = region->id();
    shelf_.Put(*std::move(region));
    return id;
  }
  // The id of the region that was taken; 0 when there was none.
  RegionId Taken(std::optional<Region> region) {
    if (!region) return 0;
    const RegionId id = region->id();
    Return(*std::move(region));
    return id;
  }
  void Return(Region region) { heap_.Return(std::move(region), /*unmapped=*/false); }

  Shelf shelf_;
};

TEST_F(ShelfTest, TheSmallestRegionInTheRangeIsTaken) {
  const RegionId large = Put(MiB(8));
  const RegionId small = Put(MiB(4));
  EXPECT_EQ(Taken(shelf_.Take(MiB(2), MiB(2))), 0u);
  EXPECT_EQ(Taken(shelf_.Take(MiB(6), MiB(6))), 0u) << "between two sizes";
  EXPECT_EQ(Taken(shelf_.Take(MiB(10), MiB(20))), 0u);
  EXPECT_EQ(shelf_.Sum(), MiB(12)) << "a search without success takes nothing";
  EXPECT_EQ(Taken(shelf_.Take(MiB(2), MiB(16))), small);
  EXPECT_EQ(Taken(shelf_.Take(MiB(2), MiB(16))), large) << "a size that is used up is passed by";
  EXPECT_EQ(Taken(shelf_.Take(MiB(2), MiB(16))), 0u);
}

TEST_F(ShelfTest, OfOneSizeTheRegionThatCameLastIsTakenFirst) {
  const RegionId first = Put(MiB(2));
  const RegionId second = Put(MiB(2));
  EXPECT_EQ(shelf_.Count(MiB(2)), 2u);
  EXPECT_EQ(Taken(shelf_.Take(MiB(2), MiB(2))), second);
  EXPECT_EQ(Taken(shelf_.Take(MiB(2), MiB(2))), first);
  EXPECT_EQ(shelf_.Count(MiB(2)), 0u);
}

TEST_F(ShelfTest, PlannedRegionsStay) {
  const RegionPlan plan = {{MiB(2), 1}, {MiB(8), 2}};
  Put(MiB(2));
  const RegionId surplus = Put(MiB(2));
  const RegionId unplanned = Put(MiB(4));
  Put(MiB(8));
  EXPECT_EQ(Taken(shelf_.TakeLargestBeyond(plan)), unplanned) << "the largest beyond the plan";
  EXPECT_EQ(Taken(shelf_.TakeLargestBeyond(plan)), surplus);
  EXPECT_EQ(Taken(shelf_.TakeLargestBeyond(plan)), 0u);
  EXPECT_EQ(shelf_.Sum(), MiB(10));
}

TEST_F(ShelfTest, NothingIsLeftAfterAllIsTaken) {
  Put(MiB(2));
  Put(MiB(4));
  std::vector<Region> all = shelf_.TakeAll();
  EXPECT_EQ(all.size(), 2u);
  EXPECT_EQ(shelf_.Sum(), Bytes(0));
  EXPECT_EQ(shelf_.Count(MiB(2)), 0u);
  for (Region& region : all) Return(std::move(region));
}

}  // namespace
}  // namespace tenure::server
