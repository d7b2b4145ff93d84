// Where a session's blocks lie, and where their regions go afterwards.

#include "server/memory/session_pool.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {
namespace {

constexpr Tenant kAlice{1000};
constexpr Tenant kBob{1001};

class SessionPoolTest : public HeapTest {
 protected:
  explicit SessionPoolTest(DeviceHeap::Options heap = {kEpoch, MiB(0), MiB(128)})
      : HeapTest(heap) {}

  Block Allocate(Bytes size, Placement placement = Placement::kAutomatic,
                 MemoryKind kind = MemoryKind::kCudaIpc) {
    absl::StatusOr<Block> block = pool_->Allocate({size, Bytes(256), placement, kind});
    TENURE_CHECK(block.ok());
    heap_.CheckInvariants();
    return *std::move(block);
  }
  // A clean region that any tenant may have.
  RegionId MakeWarm(Bytes size) {
    absl::StatusOr<Region> region = heap_.TakeFromDriver(size, kBob, MemoryKind::kCudaIpc);
    TENURE_CHECK(region.ok());
    const RegionId id = region->id();
    heap_.Quarantine(*region);
    heap_.ReturnProven(*std::move(region), nullptr);
    Maintain();
    return id;
  }
  // Whether the device heap has a clean region for this tenant; it stays there.
  bool HasWarm(Bytes size, Tenant tenant) {
    std::optional<Region> region = heap_.TakeWarm(size, size, tenant, MemoryKind::kCudaIpc);
    if (!region) return false;
    heap_.Return(*std::move(region), /*unmapped=*/true);
    Maintain();
    return true;
  }
  Bytes Leased() const { return heap_.books().leased; }

  std::shared_ptr<SessionPool> pool_ = SessionPool::Create(heap_, kAlice, MiB(1));
};

TEST_F(SessionPoolTest, SmallBlocksShareARegionAndDoNotOverlap) {
  const Block first = Allocate(KiB(300));
  const Block second = Allocate(KiB(300));
  EXPECT_EQ(first.region().id(), second.region().id());
  EXPECT_GE(first.size(), KiB(300));
  EXPECT_EQ(first.requested(), KiB(300));
  EXPECT_FALSE(first.direct());
  const Block& lower = first.offset() < second.offset() ? first : second;
  const Block& upper = first.offset() < second.offset() ? second : first;
  EXPECT_LE(lower.offset() + lower.size(), upper.offset());
  EXPECT_LE(upper.offset() + upper.size(), upper.region().size());
  EXPECT_EQ(Leased(), MiB(2));
  EXPECT_EQ(pool_->stats().pool_regions, 1u);
  EXPECT_EQ(pool_->stats().blocks.allocated_bytes, first.size() + second.size());
}

TEST_F(SessionPoolTest, ALargeBlockHasARegionOfItsOwn) {
  const Block small = Allocate(KiB(4));
  const Block large = Allocate(MiB(3));
  const Block chosen = Allocate(KiB(4), Placement::kDirect);
  EXPECT_TRUE(large.direct());
  EXPECT_EQ(large.offset(), Bytes(0));
  EXPECT_EQ(large.size(), MiB(4)) << "a region is a multiple of 2 MiB";
  EXPECT_TRUE(chosen.direct());
  EXPECT_EQ(chosen.size(), MiB(2));
  EXPECT_NE(small.region().id(), large.region().id());
  EXPECT_NE(small.region().id(), chosen.region().id());
  EXPECT_EQ(pool_->stats().closed_regions, 2u);
  EXPECT_EQ(pool_->stats().leased(), MiB(8));
  EXPECT_EQ(Leased(), MiB(8));
}

TEST_F(SessionPoolTest, BlocksOfTwoKindsNeverShareARegion) {
  const Block by_handle = Allocate(KiB(4));
  const Block by_descriptor = Allocate(KiB(4), Placement::kAutomatic, MemoryKind::kVmmFd);
  EXPECT_NE(by_handle.region().id(), by_descriptor.region().id());
  EXPECT_EQ(by_handle.region().kind(), MemoryKind::kCudaIpc);
  EXPECT_EQ(by_descriptor.region().kind(), MemoryKind::kVmmFd);
}

TEST_F(SessionPoolTest, ABlockTooLargeForThePoolIsRefusedThere) {
  const absl::Status refused =
      pool_->Allocate({MiB(2), Bytes(256), Placement::kPool, MemoryKind::kCudaIpc}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
}

TEST_F(SessionPoolTest, APoolRegionStaysWhenItIsEmptyAndLeavesWhenItIsReleased) {
  std::optional<Block> block = Allocate(KiB(4));
  const RegionId id = block->region().id();
  EXPECT_EQ(pool_->Release({id}), 0u) << "it has a block";
  block.reset();
  EXPECT_EQ(Leased(), MiB(2)) << "the next small block needs no region";
  block.emplace(Allocate(KiB(64)));
  EXPECT_EQ(block->region().id(), id);
  block.reset();
  EXPECT_EQ(pool_->Release({id + 1}), 0u) << "an unknown region";
  EXPECT_EQ(pool_->Release({id}), 1u);
  EXPECT_EQ(pool_->Release({id}), 0u) << "it has left already";
  EXPECT_EQ(Leased(), Bytes(0));
  Maintain();
  EXPECT_TRUE(HasWarm(MiB(2), kAlice)) << "its client has unmapped it";
  EXPECT_FALSE(HasWarm(MiB(2), kBob)) << "nothing proves that";
}

TEST_F(SessionPoolTest, AllEmptyRegionsButOneAreIdle) {
  std::vector<Block> blocks;
  for (int i = 0; i < 5; ++i) blocks.push_back(Allocate(MiB(1)));
  EXPECT_EQ(pool_->stats().pool_regions, 3u);
  EXPECT_EQ(Leased(), MiB(2 + 2 + 4)) << "each region as large as all before it, from 2 MiB";
  EXPECT_TRUE(pool_->IdleRegions().empty());
  blocks.clear();
  const std::vector<RegionId> idle = pool_->IdleRegions();
  EXPECT_EQ(idle.size(), 2u);
  EXPECT_EQ(pool_->Release(idle), 2u);
  EXPECT_TRUE(pool_->IdleRegions().empty());
  EXPECT_EQ(pool_->stats().pool_regions, 1u);
  EXPECT_EQ(Leased(), pool_->stats().leased());
}

TEST_F(SessionPoolTest, ADirectBlockReturnsItsRegionWithItsEnd) {
  std::optional<Block> block = Allocate(MiB(4));
  block->set_unmapped();
  block.reset();
  EXPECT_EQ(Leased(), Bytes(0));
  EXPECT_EQ(pool_->stats().regions(), 0u);
  Maintain();
  EXPECT_TRUE(HasWarm(MiB(4), kAlice));
  EXPECT_FALSE(HasWarm(MiB(4), kBob));
}

TEST_F(SessionPoolTest, ADirectBlockThatMayStillBeMappedGoesToTheDriver) {
  const Bytes free_before = device_.GetMemoryInfo()->free;
  { const Block block = Allocate(MiB(4)); }
  EXPECT_EQ(Leased(), Bytes(0));
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
  EXPECT_EQ(device_.GetMemoryInfo()->free, free_before);
}

TEST_F(SessionPoolTest, WithoutWarmMemoryNothingIsAllocatedBeforeTheDriverIsAsked) {
  for (const Bytes size : {KiB(4), MiB(4)}) {
    absl::StatusOr<std::optional<Block>> block = pool_->AllocateWarm({size});
    ASSERT_TRUE(block.ok()) << block.status();
    EXPECT_FALSE(*block);
  }
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
}

TEST_F(SessionPoolTest, GrowthTakesAWarmRegionBeforeItAsksTheDriver) {
  const RegionId larger = MakeWarm(MiB(4));
  const Block first = Allocate(KiB(4));
  EXPECT_EQ(first.region().id(), larger) << "up to twice as large as the pool wants";
  EXPECT_EQ(heap_.books().warm, Bytes(0));
  EXPECT_EQ(heap_.books().reserved(), MiB(4)) << "no new region";

  const RegionId smaller = MakeWarm(MiB(2));
  std::vector<Block> more;
  while (pool_->stats().pool_regions == 1) more.push_back(Allocate(MiB(1)));
  EXPECT_EQ(more.back().region().id(), smaller) << "the pool asks for 4 MiB first";
  EXPECT_EQ(heap_.books().reserved(), MiB(6));
}

TEST_F(SessionPoolTest, AWarmRegionMuchTooLargeServesNoDirectBlock) {
  const RegionId warm = MakeWarm(MiB(18));
  const Block smaller = Allocate(MiB(14));
  EXPECT_EQ(smaller.size(), MiB(14)) << "a fresh region";
  const Block close = Allocate(MiB(16));
  EXPECT_EQ(close.region().id(), warm);
  EXPECT_EQ(close.size(), MiB(18)) << "all of the region is the block's";
  EXPECT_EQ(close.requested(), MiB(16));
}

TEST_F(SessionPoolTest, ARefusedGrowthLeavesNothing) {
  const Block block = Allocate(KiB(4));
  const absl::Status refused = pool_->Allocate({WholeDevice()}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(pool_->stats().regions(), 1u);
  EXPECT_EQ(pool_->stats().leased(), MiB(2));
  EXPECT_EQ(heap_.books().reserved(), MiB(2));
  EXPECT_TRUE(health_.Check().ok());
}

class LimitedPoolTest : public SessionPoolTest {
 protected:
  LimitedPoolTest() : SessionPoolTest({kEpoch, MiB(0), MiB(128), MiB(10)}) {}
};

TEST_F(LimitedPoolTest, WhereTheWantedRegionHasNoRoomTheSmallestServes) {
  std::vector<Block> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(Allocate(MiB(1)));
  EXPECT_EQ(Leased(), MiB(8)) << "the next region would be of 8 MiB";
  blocks.push_back(Allocate(MiB(1)));
  EXPECT_EQ(blocks.back().region().size(), MiB(2));
  blocks.push_back(Allocate(MiB(1)));
  EXPECT_EQ(Leased(), MiB(10));
  const absl::Status refused = pool_->Allocate({MiB(1)}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(pool_->stats().leased(), MiB(10));
  blocks.pop_back();
  EXPECT_TRUE(pool_->Allocate({MiB(1)}).ok()) << "a freed block serves again";
}

TEST_F(SessionPoolTest, RestoredBlocksLieWhereTheyWereAndTheirRegionGetsNoOthers) {
  absl::StatusOr<Region> region = heap_.TakeFromDriver(MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(region.ok()) << region.status();
  const RegionId id = region->id();
  std::vector<Block> restored = pool_->Restore(
      *std::move(region), {{Bytes(0), KiB(512), KiB(500)}, {MiB(3), MiB(1), MiB(1)}});
  ASSERT_EQ(restored.size(), 2u);
  for (const Block& block : restored) EXPECT_EQ(block.region().id(), id);
  EXPECT_EQ(restored[0].offset(), Bytes(0));
  EXPECT_EQ(restored[0].size(), KiB(512));
  EXPECT_EQ(restored[0].requested(), KiB(500));
  EXPECT_EQ(restored[1].offset(), MiB(3));
  EXPECT_EQ(pool_->stats().leased(), MiB(4));
  EXPECT_NE(Allocate(KiB(4)).region().id(), id);
}

TEST_F(SessionPoolTest, ARestoredRegionLeavesWithItsLastBlockAndIsNotTakenForUnmapped) {
  absl::StatusOr<Region> region = heap_.TakeFromDriver(MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(region.ok()) << region.status();
  std::vector<Block> restored =
      pool_->Restore(*std::move(region), {{Bytes(0), MiB(1), MiB(1)}, {MiB(1), MiB(1), MiB(1)}});
  for (Block& block : restored) block.set_unmapped();
  restored.pop_back();
  EXPECT_EQ(Leased(), MiB(4)) << "one block is live";
  restored.pop_back();
  EXPECT_EQ(Leased(), Bytes(0));
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0)) << "the driver has it";
}

TEST_F(SessionPoolTest, ARestoredDirectBlockThatIsUnmappedServesItsTenantAgain) {
  absl::StatusOr<Region> region = heap_.TakeFromDriver(MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(region.ok()) << region.status();
  std::vector<Block> restored =
      pool_->Restore(*std::move(region), {{Bytes(0), MiB(4), MiB(3), /*direct=*/true}});
  restored.front().set_unmapped();
  restored.clear();
  Maintain();
  EXPECT_TRUE(HasWarm(MiB(4), kAlice));
}

TEST_F(SessionPoolTest, AnEndedPoolHandsOutAllItsRegionsWithItsLastBlock) {
  std::optional<Block> small = Allocate(KiB(4));
  std::optional<Block> direct = Allocate(MiB(4));
  std::vector<RegionId> expected = {small->region().id(), direct->region().id()};
  std::optional<std::vector<Region>> handed_out;
  pool_->End([&](std::vector<Region> regions) { handed_out = std::move(regions); });
  EXPECT_EQ(pool_->Release({expected[0]}), 0u);
  pool_.reset();
  EXPECT_FALSE(handed_out) << "there are blocks";
  direct->set_unmapped();
  direct.reset();
  EXPECT_FALSE(handed_out) << "there is a block";
  EXPECT_EQ(Leased(), MiB(6)) << "a region of an ended session leaves with the others only";
  small.reset();
  ASSERT_TRUE(handed_out);
  std::vector<RegionId> ids;
  for (const Region& region : *handed_out) ids.push_back(region.id());
  std::sort(ids.begin(), ids.end());
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(Leased(), MiB(6)) << "leased to the holder that they were handed to";
  for (Region& region : *handed_out) heap_.Return(std::move(region), /*unmapped=*/false);
}

TEST_F(SessionPoolTest, ABlockThatOutlivesTheEndKeepsItsContent) {
  std::optional<Block> block = Allocate(MiB(2), Placement::kDirect);
  uint64_t regions = 0;
  pool_->End([&](std::vector<Region> all) {
    regions = all.size();
    for (Region& region : all) heap_.Return(std::move(region), /*unmapped=*/false);
  });
  pool_.reset();
  const char written = 'x';
  char read = 0;
  ASSERT_TRUE(device_.CopyToDevice(block->region().base(), &written, Bytes(1)).ok());
  Maintain();
  ASSERT_TRUE(device_.CopyToHost(&read, block->region().base(), Bytes(1)).ok());
  EXPECT_EQ(read, 'x');
  block.reset();
  EXPECT_EQ(regions, 1u);
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
}

TEST_F(SessionPoolTest, AnEndedPoolWithoutRegionsHandsOutNone) {
  std::optional<std::vector<Region>> handed_out;
  pool_->End([&](std::vector<Region> regions) { handed_out = std::move(regions); });
  pool_.reset();
  ASSERT_TRUE(handed_out);
  EXPECT_TRUE(handed_out->empty());
}

TEST_F(SessionPoolTest, APoolThatWasNotEndedReturnsItsRegionsAsPerhapsStillMapped) {
  Allocate(KiB(4));
  EXPECT_EQ(Leased(), MiB(2));
  pool_.reset();
  EXPECT_EQ(Leased(), Bytes(0));
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0)) << "the driver has it";
}

TEST_F(SessionPoolTest, ATakenRegionLeavesThePoolAndStaysLeased) {
  Block block = Allocate(MiB(4));
  const RegionId id = block.region().id();
  Region region = SessionPool::TakeRegion(std::move(block));
  EXPECT_EQ(region.id(), id);
  EXPECT_EQ(pool_->stats().regions(), 0u);
  EXPECT_EQ(pool_->stats().leased(), Bytes(0));
  EXPECT_EQ(Leased(), MiB(4));
  pool_.reset();
  EXPECT_EQ(Leased(), MiB(4)) << "the end of its pool does not return it";
  heap_.Return(std::move(region), /*unmapped=*/false);
}

}  // namespace
}  // namespace tenure::server
