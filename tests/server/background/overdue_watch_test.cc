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
  clock_.Advance(absl::Seconds(10));
  Check(Kill());
  EXPECT_EQ(Info(session).lease->state(), LeaseState::kActive);
}

TEST_F(OverdueWatchTest, AHungClientKeepsWhatItHoldsForEver) {
  const ClientProcess client;
  connected_.insert(client.peer()->key());
  const SessionId session = Open(client);
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  for (const absl::Duration pause : {absl::Seconds(11), absl::Hours(24), absl::Hours(10000)}) {
    clock_.Advance(pause);
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
  clock_.Advance(absl::Seconds(11));
  Check(Keep());
  EXPECT_EQ(Info(session).lease->cause(), LeaseEvent::kStopped);
  // A stopped process without a connection is still stopped: nothing says that it is another
  // program.
  EXPECT_EQ(registry_->totals().suspended_sessions, 1u);
}

TEST_F(OverdueWatchTest, TheLeaseOfAnExecedClientEndsAndItsRegionsGoToTheDriver) {
  const ClientProcess client;  // no context, and no connection
  ASSERT_TRUE(Allocate(client, Open(client), MiB(4)).ok());
  clock_.Advance(absl::Seconds(10));
  Check(Keep());
  EXPECT_EQ(registry_->totals().active_sessions, 1u) << "not before it is overdue";
  clock_.Advance(absl::Seconds(1));
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
  clock_.Advance(absl::Seconds(11));
  OverdueWatch(*registry_, /*processes=*/nullptr, Keep()).Check();
  EXPECT_EQ(Info(session).lease->cause(), LeaseEvent::kHung);
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
  clock_.Advance(absl::Seconds(60));
  watch.Check();
  EXPECT_FALSE(client.peer()->Exited()) << "50 s overdue, and the grace time is a minute";
  clock_.Advance(absl::Seconds(11));
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
