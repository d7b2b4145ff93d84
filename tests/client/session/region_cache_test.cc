// RegionCache on the emulated driver. The regions belong to another process, because a process
// cannot open its own handles.
#include "client/session/region_cache.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/emulated/control.h"
#include "tests/client/eventually.h"
#include "tests/driver_contract/peer.h"
#include "tests/support/emulated_card.h"

namespace tenure::testing {
namespace {

using WhenEmpty = RegionCache::WhenEmpty;

constexpr Bytes kRegion = MiB(2);

const cuda::Driver& TestDriver() {
  static const EmulatedCard card("1GiB");
  static const std::unique_ptr<cuda::Driver> driver = [] {
    absl::StatusOr<std::unique_ptr<cuda::Driver>> loaded =
        cuda::Driver::Load(cuda::ResolveDriver("emulated").value());
    TENURE_CHECK(loaded.ok());
    return *std::move(loaded);
  }();
  return *driver;
}

class RegionCacheTest : public ::testing::Test {
 protected:
  RegionCacheTest()
      : control_(*cuda::emulated::Control::Open(TestDriver())),
        device_(*cuda::Device::Open(TestDriver(), "0")),
        peer_(TestDriver().path()) {
    peer_.OpenContext();
  }
  ~RegionCacheTest() override { control_.Clear(); }

  cuda::IpcHandle NewRegion() {
    const std::string handle = peer_.Export(peer_.Allocate(kRegion.value()));
    return *cuda::IpcHandle::FromBytes(absl::HexStringToBytes(handle));
  }
  std::function<absl::StatusOr<Mapping>()> MapBy(const cuda::IpcHandle& handle) {
    return [this, handle]() -> absl::StatusOr<Mapping> {
      const absl::StatusOr<cuda::DevicePointer> base = device_->Import(handle);
      if (!base.ok()) return base.status();
      return Mapping(*base);
    };
  }
  absl::StatusOr<cuda::DevicePointer> Acquire(RegionCache& cache, uint64_t id,
                                              const cuda::IpcHandle& handle) {
    return cache.Acquire(id, MapBy(handle), Deadline::After(absl::Seconds(20)));
  }
  uint64_t Imports() const { return control_.Calls("cuIpcOpenMemHandle_v2"); }
  uint64_t Closes() const { return control_.Calls("cuIpcCloseMemHandle"); }

  cuda::emulated::Control control_;
  std::unique_ptr<cuda::Device> device_;
  Peer peer_;
};

TEST_F(RegionCacheTest, MapsARegionOnceForAllItsBlocks) {
  RegionCache cache(*device_);
  const cuda::IpcHandle handle = NewRegion();
  const uint64_t before = Imports();
  const absl::StatusOr<cuda::DevicePointer> first = Acquire(cache, 1, handle);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Acquire(cache, 1, handle), first);
  EXPECT_EQ(Imports(), before + 1);
  EXPECT_FALSE(cache.Release(1, WhenEmpty::kUnmap)) << "another block uses it";
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_TRUE(cache.Release(1, WhenEmpty::kUnmap));
  EXPECT_EQ(cache.size(), 0u);
}

TEST_F(RegionCacheTest, KeptRegionStaysMappedForTheNextBlock) {
  RegionCache cache(*device_);
  const cuda::IpcHandle handle = NewRegion();
  ASSERT_TRUE(Acquire(cache, 1, handle).ok());
  const uint64_t imports = Imports();
  EXPECT_FALSE(cache.Release(1, WhenEmpty::kKeep));
  ASSERT_TRUE(Acquire(cache, 1, handle).ok());
  EXPECT_EQ(Imports(), imports);
  EXPECT_FALSE(cache.Release(1, WhenEmpty::kKeep));
}

TEST_F(RegionCacheTest, FailedImportIsNotKeptAndMayBeTriedAgain) {
  RegionCache cache(*device_);
  const cuda::IpcHandle handle = NewRegion();
  control_.Fail("cuIpcOpenMemHandle_v2", 1, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_FALSE(Acquire(cache, 1, handle).ok());
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_TRUE(Acquire(cache, 1, handle).ok());
  cache.Release(1, WhenEmpty::kUnmap);
}

TEST_F(RegionCacheTest, ThreadsThatAskForOneRegionMapItOnce) {
  RegionCache cache(*device_);
  const cuda::IpcHandle handle = NewRegion();
  control_.Delay("cuIpcOpenMemHandle_v2", 20'000);
  const uint64_t before = Imports();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { EXPECT_TRUE(Acquire(cache, 1, handle).ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Imports(), before + 1);
  for (int i = 0; i < 8; ++i) cache.Release(1, WhenEmpty::kUnmap);
  EXPECT_EQ(cache.size(), 0u);
}

TEST_F(RegionCacheTest, ReturnUnmapsRegionsWithoutBlocksAndSkipsTheOthers) {
  RegionCache cache(*device_);
  ASSERT_TRUE(Acquire(cache, 1, NewRegion()).ok());
  ASSERT_TRUE(Acquire(cache, 2, NewRegion()).ok());
  cache.Release(1, WhenEmpty::kKeep);
  const uint64_t closes = Closes();
  EXPECT_EQ(cache.BeginReturn({1, 2, 3, 1}), std::vector<uint64_t>({1, 3}));
  EXPECT_EQ(Closes(), closes + 1);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.BeginReturn({1}), std::vector<uint64_t>()) << "it is being returned already";
  cache.EndReturn({1, 3});
  cache.Release(2, WhenEmpty::kUnmap);
}

TEST_F(RegionCacheTest, RegionGrantedAgainWaitsUntilTheDaemonHasAnswered) {
  RegionCache cache(*device_);
  const cuda::IpcHandle handle = NewRegion();
  ASSERT_TRUE(Acquire(cache, 1, handle).ok());
  cache.Release(1, WhenEmpty::kKeep);
  ASSERT_EQ(cache.BeginReturn({1}), std::vector<uint64_t>({1}));
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      cache.Acquire(1, MapBy(handle), Deadline::After(absl::Milliseconds(1))).status()));
  std::thread waiter([&] { EXPECT_TRUE(Acquire(cache, 1, handle).ok()); });
  EXPECT_EQ(cache.size(), 0u);
  cache.EndReturn({1});
  waiter.join();
  EXPECT_EQ(cache.size(), 1u);
  cache.Release(1, WhenEmpty::kUnmap);
}

TEST_F(RegionCacheTest, RefusedUnmapIsReported) {
  RegionCache cache(*device_);
  ASSERT_TRUE(Acquire(cache, 1, NewRegion()).ok());
  control_.Fail("cuIpcCloseMemHandle", 1, CUDA_ERROR_UNKNOWN);
  EXPECT_FALSE(cache.Release(1, WhenEmpty::kUnmap));
}

TEST_F(RegionCacheTest, AfterTheSessionsEndTheLastBlockUnmapsItsRegion) {
  RegionCache cache(*device_);
  ASSERT_TRUE(Acquire(cache, 1, NewRegion()).ok());
  ASSERT_TRUE(Acquire(cache, 2, NewRegion()).ok());
  cache.Release(1, WhenEmpty::kKeep);
  cache.EndSession();
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_TRUE(cache.Release(2, WhenEmpty::kKeep));
  EXPECT_EQ(cache.size(), 0u);
}

TEST_F(RegionCacheTest, DestructorUnmapsTheRest) {
  const uint64_t closes = Closes();
  {
    RegionCache cache(*device_);
    ASSERT_TRUE(Acquire(cache, 1, NewRegion()).ok());
    cache.Release(1, WhenEmpty::kKeep);
  }
  EXPECT_EQ(Closes(), closes + 1);
}

// Several threads take and return blocks in a few regions, while another one returns idle regions,
// as Upkeep does. No region in use may be unmapped: reading through the pointer would show it.
TEST_F(RegionCacheTest, UsedRegionIsNeverUnmappedUnderItsBlock) {
  RegionCache cache(*device_);
  std::vector<cuda::IpcHandle> handles;
  for (int i = 0; i < 3; ++i) handles.push_back(NewRegion());
  std::atomic<bool> over = false;
  std::thread returner([&] {
    while (!over) {
      const std::vector<uint64_t> returning = cache.BeginReturn({0, 1, 2});
      cache.EndReturn(returning);
    }
  });
  std::vector<std::thread> users;
  for (uint64_t user = 0; user < 3; ++user) {
    users.emplace_back([&, user] {
      for (uint64_t i = 0; i < 300; ++i) {
        const uint64_t id = (user + i) % 3;
        const absl::StatusOr<cuda::DevicePointer> base = Acquire(cache, id, handles[id]);
        ASSERT_TRUE(base.ok()) << base.status();
        uint64_t word = 0;
        EXPECT_TRUE(device_->CopyToHost(&word, *base, Bytes(sizeof(word))).ok());
        cache.Release(id, i % 2 == 0 ? WhenEmpty::kKeep : WhenEmpty::kUnmap);
      }
    });
  }
  for (std::thread& user : users) user.join();
  over = true;
  returner.join();
  cache.EndSession();
  EXPECT_EQ(cache.size(), 0u);
}

}  // namespace
}  // namespace tenure::testing
