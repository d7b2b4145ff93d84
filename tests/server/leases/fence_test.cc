// When the regions of dead processes may serve again.

#include "server/leases/fence.h"

#include <memory>
#include <string>

#include "common/cuda/emulated/control.h"
#include "tests/server/leases/core_fixture.h"
#include "tests/server/leases/recorded_life.h"

namespace tenure::server {
namespace {

class FenceTest : public CoreTest {
 protected:
  // A client that held 4 MiB has died, as far as the registry knows: its region is in quarantine.
  std::shared_ptr<const Lease> Reclaim(const ClientProcess& client) {
    const SessionId session = Open(client);
    TENURE_CHECK(Allocate(client, session, MiB(4)).ok());
    std::shared_ptr<const Lease> lease = registry_->FindLease(session);
    TENURE_CHECK(registry_->Reclaim(client.peer()->key()) == 1);
    return lease;
  }
  std::string Reason() const { return quarantine_->List().at(0).reason; }
};

TEST_F(FenceTest, ALeaseIsScrubbedWithTheLastOfItsRegions) {
  ClientProcess client;
  const SessionId session = Open(client);
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  const std::shared_ptr<const Lease> lease = registry_->FindLease(session);
  client.Kill();
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
  fence_->Poll();
  EXPECT_EQ(lease->state(), LeaseState::kFenced);
  EXPECT_EQ(heap_.waiting(), MiB(8));
  ASSERT_TRUE(heap_.MaintainOnce());
  EXPECT_EQ(lease->state(), LeaseState::kFenced) << "one of two regions is cleared";
  EXPECT_TRUE(reclaimed().empty());
  ASSERT_TRUE(heap_.MaintainOnce());
  EXPECT_EQ(lease->state(), LeaseState::kScrubbed);
  EXPECT_EQ(heap_.waiting(), Bytes(0));
  ASSERT_EQ(reclaimed().size(), 1u) << "reported by the clearing, without another Poll";
  EXPECT_EQ(reclaimed()[0].session, session);
  EXPECT_EQ(reclaimed()[0].bytes, MiB(8));
  EXPECT_EQ(reclaimed()[0].regions, 2u);
  EXPECT_TRUE(quarantine_->List().empty());
}

TEST_F(FenceTest, ALivingProcessIsNotProvenSilent) {
  const ClientProcess client;
  const std::shared_ptr<const Lease> lease = Reclaim(client);
  fence_->Poll();
  EXPECT_EQ(lease->state(), LeaseState::kQuarantined);
  EXPECT_TRUE(fence_->HasWaiting());
  EXPECT_NE(Reason().find("has not exited"), std::string::npos) << Reason();
  EXPECT_EQ(heap_.books().quarantined, MiB(4));
}

TEST_F(FenceTest, AProcessThatTheDriverStillListsStaysInQuarantineWithTheReason) {
  const auto control = cuda::emulated::Control::Open(device_.driver());
  if (!control.ok()) GTEST_SKIP() << control.status();
  ClientProcess client;
  // As if a child that it forked kept its device files open.
  control->Pretend(client.peer()->pid(), true);
  const std::shared_ptr<const Lease> lease = Reclaim(client);
  client.Kill();
  for (int looks = 0; looks < 2; ++looks) {
    fence_->Poll();
    EXPECT_EQ(lease->state(), LeaseState::kQuarantined) << "an exit alone proves nothing";
    EXPECT_EQ(lease->cause(), LeaseEvent::kForked);
    EXPECT_NE(Reason().find("a child that it forked"), std::string::npos) << Reason();
    EXPECT_EQ(heap_.books().quarantined, MiB(4));
  }
  control->Pretend(client.peer()->pid(), false);
  fence_->Poll();
  EXPECT_EQ(lease->state(), LeaseState::kFenced) << "exited, and not listed: both together";
  EXPECT_FALSE(fence_->HasWaiting());
  Maintain();
  EXPECT_EQ(lease->state(), LeaseState::kScrubbed);
}

TEST_F(FenceTest, AListThatCannotBeReadProvesNothing) {
  const auto control = cuda::emulated::Control::Open(device_.driver());
  if (!control.ok()) GTEST_SKIP() << control.status();
  ClientProcess client;
  const std::shared_ptr<const Lease> lease = Reclaim(client);
  client.Kill();
  control->FailFrom("nvmlDeviceGetComputeRunningProcesses_v3", 1, CUDA_ERROR_UNKNOWN);
  fence_->Poll();
  control->Clear();
  EXPECT_EQ(lease->state(), LeaseState::kQuarantined);
  EXPECT_NE(Reason().find("cannot be read"), std::string::npos) << Reason();
  fence_->Poll();
  EXPECT_EQ(lease->state(), LeaseState::kFenced);
  Maintain();
}

TEST_F(FenceTest, WithoutAProcessListTheDriverGetsTheRegionsOfTheDead) {
  Fence blind(*quarantine_, /*processes=*/nullptr);
  ClientProcess client;
  const std::shared_ptr<const Lease> lease = Reclaim(client);
  blind.Poll();
  EXPECT_EQ(lease->state(), LeaseState::kQuarantined) << "the process still runs";
  client.Kill();
  blind.Poll();
  EXPECT_EQ(lease->state(), LeaseState::kEnded);
  ASSERT_EQ(reclaimed().size(), 1u);
  EXPECT_EQ(reclaimed()[0].lease, lease);
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0)) << "nothing of it is kept for another grant";
  EXPECT_EQ(reclaimed().size(), 1u) << "reported once";
}

TEST_F(FenceTest, ASessionThatHeldNothingEndsWithoutAProof) {
  const ClientProcess client;
  const std::shared_ptr<const Lease> lease = registry_->FindLease(Open(client));
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
  EXPECT_EQ(lease->state(), LeaseState::kEnded);
  EXPECT_FALSE(fence_->HasWaiting());
  EXPECT_TRUE(reclaimed().empty());
}

TEST_F(FenceTest, AClearingThatEndsAfterTheQuarantineDoesNoHarm) {
  ClientProcess client;
  const std::shared_ptr<const Lease> lease = Reclaim(client);
  client.Kill();
  fence_->Poll();
  registry_.reset();
  fence_.reset();
  quarantine_.reset();
  while (heap_.MaintainOnce()) {
  }
  EXPECT_TRUE(reclaimed().empty());
  // For the end of the fixture.
  quarantine_ = Quarantine::Create(heap_, clock_, journal_);
  registry_ = std::make_unique<LeaseRegistry>(heap_, *quarantine_, journal_, clock_,
                                              LeaseRegistry::Options{.epoch = kEpoch});
}

TEST(FenceJournalTest, TheJournalSaysThatASessionEndedBeforeItsRegionsServeAgain) {
  const TestFolder folder;
  RecordedLife life(folder.File("journal"));
  ClientProcess client;
  const SessionId session = life.Open(client);
  life.Allocate(client, session, MiB(4), /*request=*/1);
  client.Kill();
  EXPECT_EQ(life.registry().Reclaim(client.peer()->key()), 1u);
  EXPECT_EQ(life.Journaled().sessions().count(session), 1u)
      << "without a proof the next life must keep the region, too";
  life.fence().Poll();
  EXPECT_EQ(life.heap().waiting(), MiB(4)) << "it was not cleared yet";
  EXPECT_TRUE(life.Journaled().sessions().empty());
}

}  // namespace
}  // namespace tenure::server
