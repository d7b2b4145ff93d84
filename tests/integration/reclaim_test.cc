// The memory of clients that die, fork, hang or disconnect.

#include <signal.h>

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

using grpc::StatusCode;

std::string Number(Bytes size) { return std::to_string(size.value()); }

class ReclaimTest : public ::testing::Test {
 protected:
  bool NothingIsHeld() {
    const v1::GetStatsResponse stats = daemon_.GetStats();
    return stats.leased_bytes() == 0 && stats.quarantined_bytes() == 0 &&
           stats.active_sessions() == 0 && stats.active_allocations() == 0;
  }

  TestDaemon daemon_;
};

TEST_F(ReclaimTest, AKilledClientsMemoryComesBackAndTheNextOwnerFindsZeros) {
  for (const Bytes size : {Bytes(1000), MiB(3)}) {
    LeaseClientProcess client({"hold", daemon_.socket(), Number(size)});
    ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
    EXPECT_GE(daemon_.GetStats().leased_bytes(), size.value());
    EXPECT_EQ(client.Kill(), 128 + SIGKILL);
    EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); })) << daemon_.GetStats().DebugString();
    LeaseClientProcess next({"expect-zero", daemon_.socket(), Number(size)});
    EXPECT_EQ(next.WaitForEnd(), 0) << "a byte of the dead client's was seen";
    EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); }));
  }
  const v1::GetStatsResponse stats = daemon_.GetStats();
  EXPECT_EQ(stats.totals().sessions_reclaimed(), 2u);
  EXPECT_EQ(stats.totals().reclaimed_allocations(), 2u);
}

TEST_F(ReclaimTest, AForkedChildThatLivesOnKeepsItsDeadParentsRegionsInQuarantine) {
  LeaseClientProcess client({"clone", daemon_.socket(), Number(MiB(3))});
  const std::string line = client.ReadLine();
  ASSERT_EQ(line.substr(0, 7), "forked ");
  const pid_t child = std::stoi(line.substr(7));
  const pid_t parent = client.pid();
  EXPECT_EQ(client.Kill(), 128 + SIGKILL);
  ASSERT_TRUE(Eventually([&] {
    const v1::ListSessionsResponse sessions = daemon_.ListSessions();
    return sessions.quarantines_size() == 1 &&
           sessions.quarantines(0).reason().find("still lists") != std::string::npos;
  })) << daemon_.ListSessions().DebugString();
  const v1::Quarantine quarantine = daemon_.ListSessions().quarantines(0);
  EXPECT_EQ(quarantine.pid(), static_cast<uint32_t>(parent));
  EXPECT_EQ(quarantine.quarantined_bytes(), daemon_.GetStats().quarantined_bytes());
  EXPECT_GE(quarantine.quarantined_bytes(), MiB(3).value());
  EXPECT_EQ(daemon_.GetStats().active_sessions(), 0u);

  ASSERT_EQ(kill(child, SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); })) << daemon_.ListSessions().DebugString();
}

TEST_F(ReclaimTest, AClientsForkedChildClosesTheDeviceFilesSoThatItsParentsMemoryComesBack) {
  LeaseClientProcess client({"fork", daemon_.socket(), Number(MiB(3))});
  const std::string line = client.ReadLine();
  ASSERT_EQ(line.substr(0, 7), "forked ");
  const pid_t child = std::stoi(line.substr(7));
  EXPECT_EQ(client.Kill(), 128 + SIGKILL);
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); })) << daemon_.ListSessions().DebugString();
  EXPECT_EQ(kill(child, SIGKILL), 0) << "the child lives";
}

TEST_F(ReclaimTest, AStoppedClientKeepsItsMemory) {
  LeaseClientProcess client({"hold", daemon_.socket(), Number(MiB(3))});
  ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
  ASSERT_EQ(kill(client.pid(), SIGSTOP), 0);
  // Meanwhile another client connects and ends, so the daemon has worked and time has passed.
  LeaseClientProcess other({"expect-zero", daemon_.socket(), Number(MiB(3))});
  EXPECT_EQ(other.WaitForEnd(), 0);
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 1u);
  EXPECT_EQ(client.Kill(), 128 + SIGKILL);
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); }));
}

TEST_F(ReclaimTest, ClosingASessionGivesEverythingBack) {
  RawSession session(daemon_.allocator());
  ASSERT_TRUE(session.Allocate(1).ok());
  ASSERT_TRUE(session.Allocate(MiB(3).value()).ok());
  ASSERT_TRUE(session.Close().ok());
  EXPECT_TRUE(NothingIsHeld());
  EXPECT_EQ(session.Close().error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(session.Allocate(1).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(ReclaimTest, ADirectBlocksRegionServesTheSameTenantAgainOnceItIsUnmapped) {
  RawSession session(daemon_.allocator());
  v1::Token first;
  v1::Token second;
  v1::Token third;
  ASSERT_TRUE(session.Allocate(MiB(50).value(), &first).ok());
  ASSERT_TRUE(session.Free(first.allocation_id()).ok());  // says that it is unmapped
  // The region is cleared in the background. Until then an allocation gets another region, which is
  // returned as well.
  std::set<uint64_t> given_back = {first.region_id()};
  ASSERT_TRUE(Eventually([&] {
    if (!session.Allocate(MiB(50).value(), &second).ok()) return false;
    if (!given_back.insert(second.region_id()).second) return true;
    EXPECT_TRUE(session.Free(second.allocation_id()).ok());
    return false;
  }));
  v1::FreeRequest still_mapped = session.FreeRequest(second.allocation_id());
  still_mapped.set_unmapped(false);
  ASSERT_TRUE(session.Send(still_mapped).ok());
  ASSERT_TRUE(session.Allocate(MiB(50).value(), &third).ok());
  EXPECT_NE(third.region_id(), second.region_id())
      << "a region that may still be mapped was given again";
}

TEST(LeaseTest, AnOverdueSessionIsGrantedNothingNewLosesNothingAndRecovers) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "200ms"}});
  RawSession session(daemon.allocator());
  v1::Token token;
  ASSERT_TRUE(session.Allocate(100, &token).ok());
  ASSERT_TRUE(Eventually([&] { return daemon.ListSessions().sessions(0).state() == "SUSPENDED"; }));
  EXPECT_EQ(session.Allocate(100).error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(daemon.GetStats().suspended_sessions(), 1u);
  EXPECT_EQ(daemon.GetStats().active_allocations(), 1u);
  ASSERT_TRUE(session.KeepAlive().ok());
  EXPECT_TRUE(session.Free(token.allocation_id()).ok());
}

TEST(LeaseTest, AStoppedClientIsSuspendedWithItsCauseUntilItIsContinued) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "300ms"}});
  LeaseClientProcess client({"hold", daemon.socket(), Number(MiB(3))});
  ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
  ASSERT_EQ(kill(client.pid(), SIGSTOP), 0);
  ASSERT_TRUE(Eventually([&] { return daemon.ListSessions().sessions(0).cause() == "stopped"; }));
  EXPECT_EQ(daemon.GetStats().active_allocations(), 1u);
  ASSERT_EQ(kill(client.pid(), SIGCONT), 0);
  ASSERT_TRUE(Eventually([&] { return daemon.ListSessions().sessions(0).state() == "ACTIVE"; }));
  EXPECT_EQ(daemon.GetStats().active_allocations(), 1u);
}

TEST(LeaseTest, AHungClientIsKilledOnlyIfTheOperatorSaysSo) {
  TestDaemon daemon(TestDaemon::Options{
      .flags = {"--lease-ttl", "200ms", "--hung-client", "kill", "--hung-grace", "200ms"}});
  LeaseClientProcess client({"hold", daemon.socket(), Number(MiB(3))});
  ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
  ASSERT_EQ(kill(client.pid(), SIGSTOP), 0);
  EXPECT_EQ(client.WaitForEnd(), 128 + SIGKILL);
  EXPECT_TRUE(Eventually([&] {
    const v1::GetStatsResponse stats = daemon.GetStats();
    return stats.leased_bytes() == 0 && stats.quarantined_bytes() == 0;
  }));
  EXPECT_EQ(daemon.GetStats().totals().sessions_reclaimed(), 1u);
}

TEST(LeaseTest, AClientThatBecameAnotherProgramLosesItsLease) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "300ms"}});
  LeaseClientProcess client({"exec", daemon.socket(), Number(MiB(3))});
  ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().totals().sessions_reclaimed() == 1; }))
      << daemon.ListSessions().DebugString();
  EXPECT_EQ(kill(client.pid(), 0), 0) << "the process lives";
  EXPECT_EQ(daemon.GetStats().active_sessions() + daemon.GetStats().suspended_sessions(), 0u);
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().leased_bytes() == 0; }));
}

}  // namespace
}  // namespace tenure::testing
