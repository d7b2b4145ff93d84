// The reaper and the heap's upkeep on their own threads, with processes that really exit.

#include "server/background/reaper.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"

#include "server/background/heap_upkeep.h"
#include "tests/server/leases/core_fixture.h"

namespace tenure::server {
namespace {

class ReaperTest : public CoreTest {
 protected:
  ReaperTest() {
    overdue_ = std::make_unique<OverdueWatch>(
        *registry_, processes_.get(),
        OverdueWatch::Options{.is_connected = [](const ProcessKey&) { return true; }});
    absl::StatusOr<std::unique_ptr<Reaper>> reaper = Reaper::Create(*registry_, *fence_, *overdue_);
    TENURE_CHECK(reaper.ok());
    reaper_ = *std::move(reaper);
  }
  // The core ends after this, and its threads must have ended before.
  ~ReaperTest() override {
    reaper_->Stop();
    upkeep_.Stop();
  }

  void Start() {
    reaper_->Start();
    upkeep_.Start();
  }
  // The first `count` sessions whose regions have left quarantine, or fewer after 20 s.
  std::vector<QuarantineInfo> WaitForReclaimed(size_t count) {
    absl::MutexLock lock(&reclaimed_mu_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reclaimed_mu_) {
      return reclaimed_.size() >= count;
    };
    reclaimed_mu_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20));
    return reclaimed_;
  }

  std::unique_ptr<OverdueWatch> overdue_;
  std::unique_ptr<Reaper> reaper_;
  HeapUpkeep upkeep_{heap_};
};

TEST_F(ReaperTest, TheMemoryOfAProcessThatExitsReturns) {
  ClientProcess client;
  const ClientProcess survivor(1001);
  const SessionId session = Open(client);
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  ASSERT_TRUE(Allocate(survivor, Open(survivor), MiB(2)).ok());
  ASSERT_TRUE(reaper_->Watch(client.peer()).ok());
  ASSERT_TRUE(reaper_->Watch(survivor.peer()).ok());
  Start();
  client.Kill();
  const std::vector<QuarantineInfo> reclaimed = WaitForReclaimed(1);
  ASSERT_EQ(reclaimed.size(), 1u);
  EXPECT_EQ(reclaimed[0].session, session);
  EXPECT_EQ(reclaimed[0].bytes, MiB(4));
  EXPECT_EQ(reclaimed[0].lease->state(), LeaseState::kScrubbed);
  EXPECT_EQ(heap_.books().quarantined, Bytes(0));
  EXPECT_EQ(heap_.books().leased, MiB(2)) << "the other process lives";
}

TEST_F(ReaperTest, AProcessMayBeWatchedTwice) {
  ClientProcess client;
  // Two sessions of one process: each of them watches it.
  for (const uint64_t request : {uint64_t{1}, uint64_t{2}}) {
    ASSERT_TRUE(Allocate(client, Open(client, request), MiB(2)).ok());
    ASSERT_TRUE(reaper_->Watch(client.peer()).ok());
  }
  Start();
  client.Kill();
  EXPECT_EQ(WaitForReclaimed(2).size(), 2u);
  EXPECT_EQ(registry_->totals().sessions_reclaimed, 2u);
}

TEST_F(ReaperTest, AnExitBeforeWatchIsSeen) {
  ClientProcess client;
  ASSERT_TRUE(Allocate(client, Open(client), MiB(2)).ok());
  client.Kill();
  Start();
  ASSERT_TRUE(reaper_->Watch(client.peer()).ok());
  EXPECT_EQ(WaitForReclaimed(1).size(), 1u);
}

TEST_F(ReaperTest, AnExitBeforeStartIsSeen) {
  ClientProcess client;
  ASSERT_TRUE(Allocate(client, Open(client), MiB(2)).ok());
  ASSERT_TRUE(reaper_->Watch(client.peer()).ok());
  client.Kill();
  Start();
  EXPECT_EQ(WaitForReclaimed(1).size(), 1u);
}

TEST_F(ReaperTest, StopMayBeRepeatedAndNeedsNoStart) {
  reaper_->Stop();
  upkeep_.Stop();
  reaper_->Stop();
  upkeep_.Stop();
}

}  // namespace
}  // namespace tenure::server
