// Which tenant gets a region, when, and in what state.

#include "server/memory/device_heap.h"

#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/server/memory/emulated_control.h"
#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {
namespace {

constexpr Tenant kAlice{1000};
constexpr Tenant kBob{1001};

class DeviceHeapTest : public HeapTest {
 protected:
  Region Take(Bytes size) {
    absl::StatusOr<Region> region = heap_.TakeFromDriver(size, kAlice, MemoryKind::kCudaIpc);
    TENURE_CHECK(region.ok());
    return *std::move(region);
  }
  void Soil(const Region& region) {
    const std::vector<char> dirt(region.size().value(), 'x');
    ASSERT_TRUE(device_.CopyToDevice(region.base(), dirt.data(), region.size()).ok());
  }
  bool IsZero(const Region& region) {
    std::vector<char> bytes(region.size().value(), 'x');
    TENURE_CHECK(device_.CopyToHost(bytes.data(), region.base(), region.size()).ok());
    return bytes == std::vector<char>(bytes.size(), 0);
  }
};

TEST_F(DeviceHeapTest, ARegionReleasedByALivingSessionServesOnlyItsTenantAndOnlyAfterClearing) {
  Region region = Take(MiB(4));
  const RegionId id = region.id();
  Soil(region);
  heap_.Return(std::move(region), /*unmapped=*/true);
  EXPECT_FALSE(heap_.TakeWarm(MiB(4), MiB(4), kAlice, MemoryKind::kCudaIpc))
      << "given before it was cleared";
  Maintain();
  EXPECT_FALSE(heap_.TakeWarm(MiB(4), MiB(4), kBob, MemoryKind::kCudaIpc))
      << "given to another tenant without proof";
  std::optional<Region> again = heap_.TakeWarm(MiB(4), MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id(), id);
  EXPECT_TRUE(IsZero(*again));
  heap_.Return(*std::move(again), /*unmapped=*/true);
}

TEST_F(DeviceHeapTest, ARegionThatMayStillBeMappedGoesBackToTheDriver) {
  const Bytes free_before = device_.GetMemoryInfo()->free;
  heap_.Return(Take(MiB(4)), /*unmapped=*/false);
  EXPECT_EQ(heap_.books().warm, MiB(4)) << "not yet with the driver";
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
  EXPECT_EQ(device_.GetMemoryInfo()->free, free_before);
}

TEST_F(DeviceHeapTest, AProvenRegionServesAnybodyAfterClearing) {
  Region region = Take(MiB(4));
  const RegionId id = region.id();
  Soil(region);
  heap_.Quarantine(region);
  EXPECT_EQ(heap_.books().quarantined, MiB(4));
  heap_.ReturnProven(std::move(region), nullptr);
  Maintain();
  std::optional<Region> again = heap_.TakeWarm(MiB(4), MiB(4), kBob, MemoryKind::kCudaIpc);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id(), id);
  EXPECT_TRUE(IsZero(*again));
  heap_.Return(*std::move(again), /*unmapped=*/false);
}

TEST_F(DeviceHeapTest, ProofOfItsLastHolderDoesNotClearARegionOfItsEarlierOnes) {
  Region region = Take(MiB(4));
  heap_.Return(std::move(region), /*unmapped=*/true);  // by a session that lives on
  Maintain();
  std::optional<Region> second = heap_.TakeWarm(MiB(4), MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(second);
  heap_.Quarantine(*second);
  // The second holder is proven gone, the first is not.
  heap_.ReturnProven(*std::move(second), nullptr);
  Maintain();
  EXPECT_FALSE(heap_.TakeWarm(MiB(4), MiB(4), kBob, MemoryKind::kCudaIpc));
  std::optional<Region> third = heap_.TakeWarm(MiB(4), MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(third);
  heap_.Return(*std::move(third), /*unmapped=*/false);
}

// The dead process may have passed its descriptor on, and no proof says to which process.
TEST_F(DeviceHeapTest, WhatTheDeadHadByDescriptorServesNobodyElse) {
  absl::StatusOr<Region> region = heap_.TakeFromDriver(MiB(4), kAlice, MemoryKind::kVmmFd);
  ASSERT_TRUE(region.ok()) << region.status();
  const absl::StatusOr<cuda::VmmMemory> passed_on =
      device_.ImportVmm(region->vmm().fd.get(), MiB(4), cuda::VmmAccess::kReadWrite);
  ASSERT_TRUE(passed_on.ok()) << passed_on.status();
  heap_.Quarantine(*region);
  heap_.ReturnProven(*std::move(region), nullptr);
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
  absl::StatusOr<Region> next = heap_.TakeFromDriver(MiB(4), kBob, MemoryKind::kVmmFd);
  ASSERT_TRUE(next.ok()) << next.status();
  ASSERT_TRUE(device_.CopyToDevice(passed_on->base, "x", Bytes(1)).ok());
  EXPECT_TRUE(IsZero(*next));
  EXPECT_TRUE(device_.ReleaseVmm(*passed_on).ok());
  heap_.Return(*std::move(next), /*unmapped=*/false);
}

TEST_F(DeviceHeapTest, WhatALivingSessionHadByDescriptorIsNeverLeasedAgain) {
  absl::StatusOr<Region> region = heap_.TakeFromDriver(MiB(4), kAlice, MemoryKind::kVmmFd);
  ASSERT_TRUE(region.ok()) << region.status();
  heap_.Return(*std::move(region), /*unmapped=*/true);
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0)) << "the driver has it";
}

TEST_F(DeviceHeapTest, NoMoreThanTheWarmLimitIsKept) {
  std::vector<Region> regions;
  for (int i = 0; i < 5; ++i) regions.push_back(Take(MiB(32)));
  for (Region& region : regions) {
    heap_.Quarantine(region);
    heap_.ReturnProven(std::move(region), nullptr);
  }
  Maintain();
  EXPECT_EQ(heap_.books().warm, MiB(128));
  EXPECT_EQ(heap_.books().reserved(), MiB(128));
}

TEST_F(DeviceHeapTest, AFullDeviceGivesUpItsWarmMemoryBeforeItRefuses) {
  Region warm = Take(MiB(64));
  heap_.Quarantine(warm);
  heap_.ReturnProven(std::move(warm), nullptr);
  Maintain();
  const Bytes free_now = device_.GetMemoryInfo()->free;
  const Bytes wanted(free_now.value() / MiB(2).value() * MiB(2).value() + MiB(32).value());
  absl::StatusOr<Region> region = heap_.TakeFromDriver(wanted, kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_EQ(heap_.books().warm, Bytes(0));
  const absl::Status refused =
      heap_.TakeFromDriver(WholeDevice(), kAlice, MemoryKind::kCudaIpc).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_TRUE(health_.Check().ok()) << "a full device is no failure";
  heap_.Return(*std::move(region), /*unmapped=*/false);
}

TEST_F(DeviceHeapTest, AFullDeviceSaysWhatWouldHaveToBeFreed) {
  const absl::Status refused =
      heap_.TakeFromDriver(WholeDevice(), kAlice, MemoryKind::kCudaIpc).status();
  const Bytes missing = WholeDevice() - device_.GetMemoryInfo()->free;
  EXPECT_NE(std::string(refused.message()).find(FormatBytes(missing) + " more would have to be"),
            std::string::npos)
      << refused;
}

TEST_F(DeviceHeapTest, ACompletionIsCalledOnceAfterTheRegionIsClearedAndMayCallTheHeap) {
  Region region = Take(MiB(4));
  heap_.Quarantine(region);
  std::vector<Bytes> waiting;
  heap_.ReturnProven(std::move(region), [&] { waiting.push_back(heap_.waiting()); });
  EXPECT_TRUE(waiting.empty()) << "it is not cleared yet";
  Maintain();
  EXPECT_EQ(waiting, std::vector<Bytes>{Bytes(0)});
  heap_.Trim();
  EXPECT_EQ(waiting.size(), 1u);
}

TEST_F(DeviceHeapTest, ACompletionIsCalledWhenTheDriverTakesTheRegionInsteadOfItsClearing) {
  Region region = Take(MiB(4));
  heap_.Quarantine(region);
  int calls = 0;
  heap_.ReturnProven(std::move(region), [&] { ++calls; });
  EXPECT_EQ(heap_.Trim(), MiB(4));
  EXPECT_EQ(calls, 1);
}

TEST_F(DeviceHeapTest, MemoryThatAnotherThreadIsJustFreeingIsNoReasonForARefusal) {
  const std::optional<cuda::emulated::Control> control = EmulatedControl();
  if (!control) GTEST_SKIP() << "a real driver does not wait on demand";
  const Bytes most(WholeDevice().value() / 3 * 2 / kRegionUnit.value() * kRegionUnit.value());
  heap_.Return(Take(most), /*unmapped=*/false);
  control->Delay("cuMemFree_v2", 100'000);
  std::thread freeing([this] { heap_.SupplyOnce(); });
  while (heap_.books().warm > Bytes(0)) std::this_thread::yield();
  // It is off the books, and the driver does not have it yet.
  absl::StatusOr<Region> region = heap_.TakeFromDriver(most, kAlice, MemoryKind::kCudaIpc);
  freeing.join();
  control->Clear();
  ASSERT_TRUE(region.ok()) << region.status();
  heap_.Return(*std::move(region), /*unmapped=*/false);
}

TEST(RetiredRegionTest, ARegionThatCannotBeClearedServesNobodyAndIsNeverCalledCleared) {
  const std::optional<cuda::emulated::Control> control = EmulatedControl();
  if (!control) GTEST_SKIP() << "a real driver does not fail on demand";
  Health health;
  int calls = 0;
  {
    DeviceHeap heap(TestDevice(), health, DeviceHeap::Options{7, Bytes(0), MiB(128)});
    absl::StatusOr<Region> region = heap.TakeFromDriver(MiB(4), kAlice, MemoryKind::kCudaIpc);
    ASSERT_TRUE(region.ok()) << region.status();
    const cuda::DevicePointer base = region->base();
    heap.Quarantine(*region);
    heap.ReturnProven(*std::move(region), [&] { ++calls; });
    control->Fail("cuMemsetD8Async", 1, CUDA_ERROR_UNKNOWN);
    EXPECT_TRUE(heap.ClearOnce());
    control->Clear();
    heap.CheckInvariants();
    EXPECT_EQ(heap.books().quarantined, MiB(4));
    EXPECT_EQ(heap.books().warm, Bytes(0));
    EXPECT_EQ(heap.Trim(), Bytes(0));
    EXPECT_FALSE(heap.TakeWarm(MiB(4), MiB(4), kAlice, MemoryKind::kCudaIpc));
    EXPECT_TRUE(absl::IsUnavailable(health.Check()));
    // The context of this program lives on, unlike that of a daemon.
    EXPECT_TRUE(TestDevice().Free(base).ok());
  }
  EXPECT_EQ(calls, 0);
}

class TenantLimitTest : public HeapTest {
 protected:
  TenantLimitTest() : HeapTest({kEpoch, MiB(8), MiB(128), MiB(16)}) { Maintain(); }
};

TEST_F(TenantLimitTest, QuarantinedMemoryCountsAndOthersDoNotPayForIt) {
  Region dead = *heap_.TakeFromDriver(MiB(12), kAlice, MemoryKind::kCudaIpc);
  heap_.Quarantine(dead);
  const absl::Status refused = heap_.TakeFromDriver(MiB(6), kAlice, MemoryKind::kCudaIpc).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_NE(std::string(refused.message()).find("--max-tenant-bytes"), std::string::npos)
      << refused;
  absl::StatusOr<Region> of_bob = heap_.TakeFromDriver(MiB(16), kBob, MemoryKind::kCudaIpc);
  ASSERT_TRUE(of_bob.ok()) << "another tenant's account is full";
  EXPECT_FALSE(heap_.TakeWarm(MiB(2), MiB(2), kBob, MemoryKind::kCudaIpc))
      << "warm memory is beyond the limit, too";

  absl::StatusOr<Region> rest = heap_.TakeFromDriver(MiB(4), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(rest.ok()) << rest.status();
  heap_.CheckInvariants();
  heap_.ReturnProven(std::move(dead), nullptr);
  absl::StatusOr<Region> again = heap_.TakeFromDriver(MiB(12), kAlice, MemoryKind::kCudaIpc);
  EXPECT_TRUE(again.ok()) << "proof takes it off the account: " << again.status();
  for (absl::StatusOr<Region>* region : {&of_bob, &rest, &again}) {
    heap_.Return(std::move(**region), /*unmapped=*/true);
  }
}

TEST_F(TenantLimitTest, ARefusedRequestLeavesTheAccountAsItWas) {
  EXPECT_TRUE(absl::IsResourceExhausted(
      heap_.TakeFromDriver(MiB(18), kAlice, MemoryKind::kCudaIpc).status()));
  heap_.CheckInvariants();
  absl::StatusOr<Region> all = heap_.TakeFromDriver(MiB(16), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(all.ok()) << all.status();
  heap_.Return(*std::move(all), /*unmapped=*/true);
}

TEST_F(TenantLimitTest, ATenantRestoredAboveTheLimitKeepsItsMemoryAndGetsNoMore) {
  const absl::StatusOr<cuda::VmmMemory> earlier = device_.CreateVmm(MiB(24));
  ASSERT_TRUE(earlier.ok()) << earlier.status();
  absl::StatusOr<UniqueFd> kept = device_.ExportVmm(*earlier);
  ASSERT_TRUE(kept.ok()) << kept.status();
  Region restored = heap_.RestoreRegion(1, ExportedVmm{*earlier, *std::move(kept)}, kAlice);
  EXPECT_EQ(heap_.books().leased, MiB(24));
  heap_.CheckInvariants();
  EXPECT_FALSE(heap_.TakeWarm(MiB(2), MiB(2), kAlice, MemoryKind::kCudaIpc));
  EXPECT_TRUE(absl::IsResourceExhausted(
      heap_.TakeFromDriver(MiB(2), kAlice, MemoryKind::kCudaIpc).status()));
  heap_.Return(std::move(restored), /*unmapped=*/false);
  std::optional<Region> warm = heap_.TakeWarm(MiB(2), MiB(2), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(warm);
  heap_.Return(*std::move(warm), /*unmapped=*/false);
}

TEST(WarmReserveTest, TheReserveIsFilledToItsSizeAndRefilledAfterAGrant) {
  Health health;
  DeviceHeap heap(TestDevice(), health, DeviceHeap::Options{7, MiB(100), MiB(200)});
  while (heap.MaintainOnce()) heap.CheckInvariants();
  EXPECT_EQ(heap.books().warm, MiB(100));
  std::optional<Region> region = heap.TakeWarm(MiB(2), MiB(2), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(region) << "a first region of a pool is not in the reserve";
  EXPECT_EQ(heap.books().warm, MiB(98));
  while (heap.MaintainOnce()) heap.CheckInvariants();
  EXPECT_EQ(heap.books().warm, MiB(100));
  heap.Return(*std::move(region), /*unmapped=*/false);
}

TEST(WarmReserveTest, WhatComesLastIsKeptAndTheReserveStays) {
  Health health;
  DeviceHeap heap(TestDevice(), health, DeviceHeap::Options{7, MiB(20), MiB(50)});
  while (heap.MaintainOnce()) heap.CheckInvariants();
  for (const uint64_t size : {24u, 16u, 30u}) {
    absl::StatusOr<Region> region = heap.TakeFromDriver(MiB(size), kAlice, MemoryKind::kCudaIpc);
    ASSERT_TRUE(region.ok());
    heap.Return(*std::move(region), /*unmapped=*/true);
    while (heap.MaintainOnce()) heap.CheckInvariants();
    EXPECT_EQ(heap.books().warm, MiB(20 + size));
  }
  absl::StatusOr<Region> too_large = heap.TakeFromDriver(MiB(32), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(too_large.ok());
  heap.Return(*std::move(too_large), /*unmapped=*/true);
  while (heap.MaintainOnce()) heap.CheckInvariants();
  EXPECT_EQ(heap.books().warm, MiB(50)) << "a region that cannot be kept displaces no other";
}

TEST(WarmReserveTest, AWarmRegionMayBeLargerThanAskedButNotLargerThanAllowed) {
  Health health;
  DeviceHeap heap(TestDevice(), health, DeviceHeap::Options{7, Bytes(0), MiB(200)});
  absl::StatusOr<Region> made = heap.TakeFromDriver(MiB(18), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(made.ok());
  heap.Return(*std::move(made), /*unmapped=*/true);
  while (heap.MaintainOnce()) heap.CheckInvariants();
  EXPECT_FALSE(heap.TakeWarm(MiB(8), MiB(16), kAlice, MemoryKind::kCudaIpc));
  EXPECT_FALSE(heap.TakeWarm(MiB(20), MiB(40), kAlice, MemoryKind::kCudaIpc));
  std::optional<Region> region = heap.TakeWarm(MiB(16), MiB(18), kAlice, MemoryKind::kCudaIpc);
  ASSERT_TRUE(region);
  EXPECT_EQ(region->size(), MiB(18));
  heap.Return(*std::move(region), /*unmapped=*/false);
}

}  // namespace
}  // namespace tenure::server
