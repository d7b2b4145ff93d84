// The regions, descriptors and counts that the region driver leaves behind, also when a call fails.

#include "server/memory/region_driver.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "tests/server/memory/emulated_control.h"
#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {
namespace {

class RegionDriverTest : public ::testing::Test {
 protected:
  Bytes Free() { return device_.GetMemoryInfo()->free; }
  absl::Status Made(MemoryKind kind) {
    absl::StatusOr<Region> region = regions_.Make(MiB(4), kind);
    if (region.ok()) regions_.Free(*std::move(region));
    return region.status();
  }

  cuda::Device& device_ = TestDevice();
  Health health_;
  RegionDriver regions_{device_, health_, {.epoch = 7, .max_vmm_regions = 2}};
  const Bytes free_at_first_ = Free();
};

TEST_F(RegionDriverTest, AFreedRegionIsWithTheDriverAgain) {
  for (const MemoryKind kind : kMemoryKinds) {
    absl::StatusOr<Region> region = regions_.Make(MiB(4), kind);
    ASSERT_TRUE(region.ok()) << region.status();
    EXPECT_EQ(region->kind(), kind);
    EXPECT_EQ(Free(), free_at_first_ - MiB(4));
    regions_.Free(*std::move(region));
    EXPECT_EQ(Free(), free_at_first_);
  }
}

TEST_F(RegionDriverTest, AFullDeviceIsNoFailureOfTheHealth) {
  for (const MemoryKind kind : kMemoryKinds) {
    const absl::Status full = regions_.Make(*RoundUp(device_.total(), kRegionUnit), kind).status();
    EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
    EXPECT_TRUE(health_.Check().ok());
    EXPECT_EQ(Free(), free_at_first_);
  }
}

TEST_F(RegionDriverTest, RegionsByDescriptorAreLimitedAndARefusedOneIsNotCounted) {
  std::optional<Region> first = *regions_.Make(MiB(2), MemoryKind::kVmmFd);
  Region second = *regions_.Make(MiB(2), MemoryKind::kVmmFd);
  for (int i = 0; i < 3; ++i) {
    const absl::Status refused = Made(MemoryKind::kVmmFd);
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  }
  EXPECT_TRUE(Made(MemoryKind::kCudaIpc).ok()) << "a handle is no descriptor";
  regions_.Free(*std::move(first));
  EXPECT_TRUE(Made(MemoryKind::kVmmFd).ok());
  EXPECT_TRUE(Made(MemoryKind::kVmmFd).ok());
  EXPECT_TRUE(health_.Check().ok());
  regions_.Free(std::move(second));
}

TEST_F(RegionDriverTest, ARestoredRegionHasItsContentAndIsCountedBeyondTheLimit) {
  // As many as the driver of this test may have.
  absl::StatusOr<Region> first = regions_.Make(MiB(2), MemoryKind::kVmmFd);
  absl::StatusOr<Region> second = regions_.Make(MiB(2), MemoryKind::kVmmFd);
  ASSERT_TRUE(first.ok() && second.ok());
  const absl::StatusOr<cuda::VmmMemory> earlier = device_.CreateVmm(MiB(2));
  ASSERT_TRUE(earlier.ok()) << earlier.status();
  ASSERT_TRUE(device_.CopyToDevice(earlier->base, "x", Bytes(1)).ok());
  absl::StatusOr<UniqueFd> kept = device_.ExportVmm(*earlier);
  ASSERT_TRUE(kept.ok()) << kept.status();
  Region restored = regions_.Restore(RegionId{77}, ExportedVmm{*earlier, *std::move(kept)});
  EXPECT_EQ(restored.id(), RegionId{77});
  char read = 0;
  ASSERT_TRUE(device_.CopyToHost(&read, restored.base(), Bytes(1)).ok());
  EXPECT_EQ(read, 'x');
  regions_.Free(*std::move(first));
  EXPECT_TRUE(absl::IsResourceExhausted(Made(MemoryKind::kVmmFd))) << "only growth is blocked";
  regions_.Free(*std::move(second));
  EXPECT_TRUE(Made(MemoryKind::kVmmFd).ok());
  regions_.Free(std::move(restored));
  EXPECT_EQ(Free(), free_at_first_);
}

// Each step of making a region.
class FailedStepTest : public RegionDriverTest,
                       public ::testing::WithParamInterface<std::pair<const char*, MemoryKind>> {};

TEST_P(FailedStepTest, LeavesNothingBehindAndFailsTheHealth) {
  const std::optional<cuda::emulated::Control> control = EmulatedControl();
  if (!control) GTEST_SKIP() << "a real driver does not fail on demand";
  control->Fail(GetParam().first, 1, CUDA_ERROR_UNKNOWN);
  const absl::Status failed = Made(GetParam().second);
  control->Clear();
  EXPECT_FALSE(failed.ok());
  EXPECT_FALSE(absl::IsResourceExhausted(failed)) << failed;
  EXPECT_TRUE(absl::IsUnavailable(health_.Check()));
  EXPECT_EQ(Free(), free_at_first_);
  EXPECT_TRUE(absl::IsUnavailable(Made(MemoryKind::kCudaIpc))) << "a lost context makes nothing";
}

INSTANTIATE_TEST_SUITE_P(Steps, FailedStepTest,
                         ::testing::Values(std::pair("cuMemAlloc_v2", MemoryKind::kCudaIpc),
                                           std::pair("cuIpcGetMemHandle", MemoryKind::kCudaIpc),
                                           std::pair("cuMemsetD8Async", MemoryKind::kCudaIpc),
                                           std::pair("cuMemCreate", MemoryKind::kVmmFd),
                                           std::pair("cuMemExportToShareableHandle",
                                                     MemoryKind::kVmmFd),
                                           std::pair("cuMemsetD8Async", MemoryKind::kVmmFd)),
                         [](const auto& step) {
                           return std::string(step.param.first) +
                                  (step.param.second == MemoryKind::kVmmFd ? "ByDescriptor"
                                                                           : "ByHandle");
                         });

}  // namespace
}  // namespace tenure::server
