// Clients without keep-alives: stopped, hung and exec'ed ones, and the operator's choice to kill.

#include "server/background/overdue_watch.h"

#include <sys/wait.h>

#include <set>

#include "tests/server/leases/core_fixture.h"

namespace tenure::server {
namespace {

class OverdueWatchTest : public CoreTest {
 protected:
  OverdueWatch::Options Keep() {
    OverdueWatch::Options options;
    options.is_connected = [this](const ProcessKey& key) { return connected_.contains(key); };
    return options;
  }
  OverdueWatch::Options Kill() {
    OverdueWatch::Options options = Keep();
    options.kill_hung = true;
    options.grace = absl::Minutes(1);
    return options;
  }
  void Check(OverdueWatch::Options options) {
    OverdueWatch(*registry_, processes_.get(), std::move(options)).Check();
  }
  SessionInfo Info(SessionId session) {
    for (SessionInfo& info : registry_->ListSessions()) {
      if (info.id == session) return info;
    }
    return {};
  }

  std::set<ProcessKey> connected_;
};

TEST_F(OverdueWatchTest, WhoSpeaksInTimeIsLeftAlone) {
  const ClientProcess client;
  const SessionId session = Open(client);
  PassTime(absl::Seconds(10));
  Check(Kill());
  EXPECT_EQ(Info(session).lease->state(), LeaseState::kActive);
}

TEST_F(OverdueWatchTest, AHungClientKeepsWhatItHoldsForEver) {
  const ClientProcess client;
  connected_.insert(client.peer()->key());
  const SessionId session = Open(client);
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  for (const absl::Duration pause : {absl::Seconds(11), absl::Minutes(5), absl::Hours(24)}) {
    PassTime(pause);
    Check(Keep());
    EXPECT_EQ(Info(session).lease->state(), LeaseState::kSuspended);
    EXPECT_EQ(Info(session).lease->cause(), LeaseEvent::kHung);
    EXPECT_EQ(heap_.books().leased, MiB(4));
  }
  EXPECT_TRUE(registry_->KeepAlive(*client.peer(), session).ok());
  EXPECT_EQ(Info(session).lease->state(), LeaseState::kActive);
}

TEST_F(OverdueWatchTest, AStoppedClientIsCalledStopped) {
  const ClientProcess client;
  const SessionId session = Open(client);
  ASSERT_EQ(kill(client.peer()->pid(), SIGSTOP), 0);
  ASSERT_EQ(waitpid(client.peer()->pid(), nullptr, WUNTRACED), client.peer()->pid());
  PassTime(absl::Seconds(11));
  Check(Keep());
  EXPECT_EQ(Info(session).lease->cause(), LeaseEvent::kStopped);
  // A stopped process without a connection is still stopped: nothing says that it is another
  // program.
  EXPECT_EQ(registry_->totals().suspended_sessions, 1u);
}

TEST_F(OverdueWatchTest, TheLeaseOfAnExecedClientEndsAndItsRegionsGoToTheDriver) {
  const ClientProcess client;  // no context, and no connection
  ASSERT_TRUE(Allocate(client, Open(client), MiB(4)).ok());
  PassTime(absl::Seconds(10));
  Check(Keep());
  EXPECT_EQ(registry_->totals().active_sessions, 1u) << "not before it is overdue";
  PassTime(absl::Seconds(1));
  Check(Keep());
  EXPECT_EQ(registry_->totals().suspended_sessions + registry_->totals().active_sessions, 0u);
  EXPECT_EQ(registry_->totals().sessions_reclaimed, 1u);
  EXPECT_EQ(heap_.books().leased, Bytes(0));
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0)) << "it was not proven gone, so no session gets it";
}

TEST_F(OverdueWatchTest, WithoutAProcessListNobodyIsTakenToHaveExeced) {
  const ClientProcess client;
  const SessionId session = Open(client);
  PassTime(absl::Seconds(11));
  OverdueWatch(*registry_, /*processes=*/nullptr, Keep()).Check();
  EXPECT_EQ(Info(session).lease->cause(), LeaseEvent::kHung);
}

TEST_F(OverdueWatchTest, APauseOfTheDaemonKillsNobodyAndIsReported) {
  const ClientProcess client;
  connected_.insert(client.peer()->key());
  const SessionId session = Open(client);
  std::vector<absl::Duration> pauses;
  OverdueWatch::Options options = Kill();
  options.on_pause = [&pauses](absl::Duration pause) { pauses.push_back(pause); };
  OverdueWatch watch(*registry_, processes_.get(), std::move(options));
  watch.Check();
  clock_.Advance(absl::Hours(1));
  watch.Check();
  EXPECT_FALSE(client.peer()->Exited());
  EXPECT_EQ(Info(session).lease->state(), LeaseState::kActive);
  EXPECT_EQ(pauses, std::vector{absl::Hours(1) - LeaseRegistry::kLongestLook});
}

TEST_F(OverdueWatchTest, AKeepAliveDuringTheDecisionSavesTheClient) {
  const ClientProcess client;
  connected_.insert(client.peer()->key());
  const SessionId session = Open(client);
  OverdueWatch::Options options = Kill();
  // The last question before the decision; meanwhile the client speaks again.
  options.is_stopped = [&](const Peer&) {
    EXPECT_TRUE(registry_->KeepAlive(*client.peer(), session).ok());
    return false;
  };
  options.on_kill = [](const Lease&, const absl::Status&) { ADD_FAILURE() << "it was killed"; };
  OverdueWatch watch(*registry_, processes_.get(), std::move(options));
  PassTime(absl::Minutes(2));
  watch.Check();
  EXPECT_FALSE(client.peer()->Exited());
  EXPECT_EQ(Info(session).lease->state(), LeaseState::kActive);
}

TEST_F(OverdueWatchTest, AllSessionsOfAProcessAreJudgedTogether) {
  const ClientProcess client;
  connected_.insert(client.peer()->key());
  std::vector<SessionId> sessions;
  for (uint64_t i = 1; i <= 200; ++i) sessions.push_back(Open(client, i));
  int looks = 0;
  OverdueWatch::Options options = Keep();
  options.is_stopped = [&looks](const Peer&) {
    ++looks;
    return false;
  };
  OverdueWatch watch(*registry_, processes_.get(), std::move(options));
  PassTime(absl::Seconds(11));
  watch.Check();
  EXPECT_EQ(looks, 1) << "one system call, however many sessions the process has";
  for (const SessionId session : sessions) {
    EXPECT_EQ(Info(session).lease->cause(), LeaseEvent::kHung);
  }
  CheckBooks();
}

TEST_F(OverdueWatchTest, AnOperatorMayHaveSilentClientsKilledAfterAGraceTime) {
  const ClientProcess client;
  connected_.insert(client.peer()->key());
  const SessionId session = Open(client);
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  int kills = 0;
  OverdueWatch::Options options = Kill();
  options.on_kill = [&kills](const Lease&, const absl::Status& outcome) {
    EXPECT_TRUE(outcome.ok()) << outcome;
    ++kills;
  };
  OverdueWatch watch(*registry_, processes_.get(), std::move(options));
  PassTime(absl::Seconds(60));
  watch.Check();
  EXPECT_FALSE(client.peer()->Exited()) << "50 s overdue, and the grace time is a minute";
  PassTime(absl::Seconds(11));
  watch.Check();
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(client.peer()->pid()), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(info.si_status, SIGKILL);
  watch.Check();
  EXPECT_EQ(kills, 1);
  EXPECT_EQ(heap_.books().leased, MiB(4)) << "it dies as others do: through the fence";
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
  EXPECT_EQ(heap_.books().quarantined, MiB(4));
  fence_->Poll();
  Maintain();
  fence_->Poll();
}

}  // namespace
}  // namespace tenure::server
