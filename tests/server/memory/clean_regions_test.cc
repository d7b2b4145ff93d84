// Which clean regions are kept, and which a grant gets.

#include "server/memory/clean_regions.h"

#include <optional>
#include <utility>
#include <vector>

#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {
namespace {

constexpr Tenant kAlice{1000};
constexpr Tenant kBob{1001};
constexpr MemoryKind kKind = MemoryKind::kCudaIpc;

class CleanRegionsTest : public HeapTest {
 protected:
  ~CleanRegionsTest() override {
    clean_.CheckInvariants();
    Return(clean_.TakeAll());
    EXPECT_EQ(clean_.bytes(), Bytes(0));
  }
  // A region that any tenant may have.
  Region Fresh(Bytes size) {
    absl::StatusOr<Region> region = heap_.TakeFromDriver(size, kAlice, kKind);
    TENURE_CHECK(region.ok());
    return *std::move(region);
  }
  // A region that a live session of Alice's has returned.
  Region Shared(Bytes size) {
    heap_.Return(Fresh(size), /*unmapped=*/true);
    Maintain();
    std::optional<Region> region = heap_.TakeWarm(size, size, kAlice, kKind);
    TENURE_CHECK(region && region->shared_in_tenant());
    return *std::move(region);
  }
  RegionId Put(Region region) {
    const RegionId id = region.id();
    TENURE_CHECK(clean_.MakeRoom(region.size(), displaced_));
    clean_.Put(std::move(region));
    clean_.CheckInvariants();
    return id;
  }
  // The ids of the regions that were displaced since the last call.
  std::vector<RegionId> Displaced() {
    std::vector<RegionId> ids;
    for (const Region& region : displaced_) ids.push_back(region.id());
    Return(std::exchange(displaced_, {}));
    return ids;
  }
  // The id of the region of this size that the tenant gets; 0 when there is none.
  RegionId TakenBy(Tenant tenant, Bytes size) {
    std::optional<Region> region = clean_.Take(size, size, tenant, kKind);
    if (!region) return 0;
    const RegionId id = region->id();
    heap_.Return(*std::move(region), /*unmapped=*/false);
    return id;
  }
  void Return(std::vector<Region> regions) {
    for (Region& region : regions) heap_.Return(std::move(region), /*unmapped=*/false);
  }

  // At most 16 MiB, of which four regions of 2 MiB are planned.
  CleanRegions clean_{MiB(16), MiB(8), kKind};
  std::vector<Region> displaced_;
};

TEST_F(CleanRegionsTest, ATenantsCacheServesOnlyThatTenantAndBeforeTheReserve) {
  const RegionId cached = Put(Shared(MiB(2)));
  EXPECT_EQ(TakenBy(kBob, MiB(2)), 0u);
  const RegionId reserved = Put(Fresh(MiB(2)));
  EXPECT_EQ(TakenBy(kAlice, MiB(2)), cached);
  EXPECT_EQ(TakenBy(kBob, MiB(2)), reserved);
  EXPECT_EQ(clean_.bytes(), Bytes(0));
}

TEST_F(CleanRegionsTest, CachedRegionsAreDisplacedBeforeThoseOfTheReserve) {
  const RegionId reserved = Put(Fresh(MiB(6)));
  const RegionId cached = Put(Shared(MiB(6)));
  Put(Fresh(MiB(8)));
  EXPECT_EQ(Displaced(), std::vector<RegionId>{cached});
  Put(Fresh(MiB(4)));
  EXPECT_EQ(Displaced().size(), 1u) << "the largest unplanned one";
  EXPECT_EQ(TakenBy(kBob, MiB(6)), reserved);
}

TEST_F(CleanRegionsTest, PlannedRegionsAreNeverDisplaced) {
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(clean_.MissingReserve(100), MiB(2));
    Put(Fresh(MiB(2)));
  }
  EXPECT_EQ(clean_.MissingReserve(100), Bytes(0));
  const RegionId kept = Put(Fresh(MiB(8)));
  Region too_large = Fresh(MiB(10));
  EXPECT_FALSE(clean_.MakeRoom(too_large.size(), displaced_));
  EXPECT_TRUE(Displaced().empty()) << "a region that cannot be kept displaces no other";
  heap_.Return(std::move(too_large), /*unmapped=*/false);
  Put(Fresh(MiB(8)));
  EXPECT_EQ(Displaced(), std::vector<RegionId>{kept});
  EXPECT_EQ(clean_.bytes(), MiB(16));
  EXPECT_EQ(clean_.MissingReserve(100), Bytes(0));
}

TEST_F(CleanRegionsTest, AFewMissingRegionsAreNotUrgent) {
  for (int i = 0; i < 4; ++i) Put(Fresh(MiB(2)));
  EXPECT_NE(TakenBy(kBob, MiB(2)), 0u);
  EXPECT_EQ(clean_.MissingReserve(100), MiB(2));
  EXPECT_EQ(clean_.MissingReserve(75), Bytes(0)) << "three of four are there";
  EXPECT_NE(TakenBy(kBob, MiB(2)), 0u);
  EXPECT_EQ(clean_.MissingReserve(75), MiB(2));
}

}  // namespace
}  // namespace tenure::server
