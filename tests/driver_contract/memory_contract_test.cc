// Claims about device memory itself: what is refused, what it costs, what it contains.
#include <string>

#include "absl/strings/str_cat.h"

#include "tests/driver_contract/contract.h"

namespace tenure::testing {
namespace {

using MemoryContract = DriverContract;

TEST_F(MemoryContract, NothingAndTooMuchAreRefused) {
  CUdeviceptr pointer = 0;
  EXPECT_EQ(driver().cuMemAlloc(&pointer, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemAlloc(&pointer, TotalMemory().value() * 2), CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(driver().cuMemAlloc(&pointer, TotalMemory().value()), CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_F(MemoryContract, FreeMemoryFallsByWhatIsAllocatedAndRisesByWhatIsFreed) {
  const Bytes before = FreeMemory();
  CUdeviceptr first = 0;
  CUdeviceptr second = 0;
  ASSERT_EQ(driver().cuMemAlloc(&first, MiB(64).value()), CUDA_SUCCESS);
  EXPECT_EQ(FreeMemory(), before - MiB(64));
  ASSERT_EQ(driver().cuMemAlloc(&second, MiB(2).value()), CUDA_SUCCESS);
  EXPECT_EQ(FreeMemory(), before - MiB(66));
  EXPECT_EQ(driver().cuMemFree(first), CUDA_SUCCESS);
  EXPECT_EQ(FreeMemory(), before - MiB(2));
  EXPECT_EQ(driver().cuMemFree(second), CUDA_SUCCESS);
  EXPECT_EQ(FreeMemory(), before);
}

TEST_F(MemoryContract, AnotherProcessesAllocationsCountAsWell) {
  Peer other(path());
  const Bytes before = FreeMemory();
  const std::string memory = other.Allocate(MiB(64).value());
  EXPECT_EQ(FreeMemory(), before - MiB(64));
  other.Get("free " + memory);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(MemoryContract, AThousandSmallAllocationsArePacked) {
  Peer other(path());
  const Bytes before = FreeMemory();
  other.Get("allocate-many 1000 4096");
  EXPECT_LT(FreeMemory(), before);
  EXPECT_GE(FreeMemory(), before - MiB(4));
}

TEST_F(MemoryContract, LargeAllocationsStartAtPagesAndTakeWholeOnes) {
  Peer other(path());
  const Bytes before = FreeMemory();
  const std::string first = other.Allocate(MiB(3).value());
  EXPECT_EQ(FreeMemory(), before - MiB(4));
  const std::string second = other.Allocate(MiB(1).value() + 1);
  EXPECT_EQ(FreeMemory(), before - MiB(6));
  for (const std::string& memory : {first, second}) {
    EXPECT_EQ(other.Get(absl::StrCat("modulo ", memory, " ", MiB(2).value())), "0");
  }
}

TEST_F(MemoryContract, WhatLiesOutsideAnAllocationIsRefusedAlsoInItsLastPage) {
  Peer other(path());
  const std::string memory = other.Allocate(MiB(3).value());
  const std::string beyond = absl::StrCat("fill ", memory, " 0 ", MiB(3).value() + 1, " 1");
  EXPECT_EQ(other.Ask(beyond).result, CUDA_ERROR_INVALID_VALUE);
  EXPECT_TRUE(other.Holds(memory, MiB(3).value(), 0));
}

TEST_F(MemoryContract, AFreeNeedsNoCurrentContext) {
  Peer other(path());
  const std::string memory = other.Allocate(MiB(2).value());
  EXPECT_EQ(other.Ask("free-without-context " + memory).result, CUDA_SUCCESS);
}

TEST_F(MemoryContract, AReleasedContextIsDestroyed) {
  Peer other(path());
  EXPECT_EQ(other.Ask("use-released-context").result, CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

// Only whole pages are cleared.
TEST_F(MemoryContract, APlaceUsedAgainInAPageKeepsItsOldBytes) {
  Peer other(path());
  const std::string neighbour = other.Allocate(4096);
  const std::string memory = other.Allocate(4096);
  other.Fill(memory, 4096, 0xEF);
  other.Get("free " + memory);
  const std::string next = other.Allocate(4096);
  EXPECT_EQ(other.Get(absl::StrCat("distance ", memory, " ", next)), "0");
  EXPECT_TRUE(other.Holds(next, 4096, 0xEF));
}

TEST_F(MemoryContract, FreshMemoryIsZeroAlsoWhereAnotherAllocationWas) {
  Peer other(path());
  for (const uint64_t size : {uint64_t{4096}, MiB(2).value(), MiB(6).value()}) {
    const std::string dirty = other.Allocate(size);
    EXPECT_TRUE(other.Holds(dirty, size, 0)) << size;
    other.Fill(dirty, size, 0xAB);
    other.Get("free " + dirty);
    EXPECT_TRUE(other.Holds(other.Allocate(size), size, 0)) << size;
  }
}

TEST_F(MemoryContract, FreshMemoryIsZeroAlsoWhereAKilledProcessWrote) {
  const Bytes before = FreeMemory();
  const uint64_t size = MiB(64).value();
  Peer first(path());
  first.Fill(first.Allocate(size), size, 0xCD);
  first.Kill();
  ASSERT_TRUE(EventuallyFree(before));
  Peer second(path());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(second.Holds(second.Allocate(size), size, 0));
}

TEST_F(MemoryContract, AContextCostsMemoryAndGivesItBack) {
  // 519 to 524 MiB on an H200 of 139.8 GiB. The emulated device has the same proportion.
  const bool emulated = driver().emulated();
  const Bytes least = emulated ? Bytes(TotalMemory().value() / 256) : MiB(300);
  const Bytes most = emulated ? least : MiB(900);
  const Bytes before = FreeMemory();
  Peer other(path(), 0, /*with_context=*/false);
  EXPECT_EQ(FreeMemory(), before);
  other.OpenContext();
  const Bytes cost = before - FreeMemory();
  EXPECT_GE(cost, least);
  EXPECT_LE(cost, most);
  other.Exit();
  EXPECT_TRUE(EventuallyFree(before));
}

}  // namespace
}  // namespace tenure::testing
