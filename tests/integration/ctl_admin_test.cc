// The output and the exit codes of tenurectl's explain, trim, revoke and drain.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "client/client.h"
#include "common/bytes.h"
#include "tests/integration/program_fixture.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_session.h"

namespace tenure::testing {
namespace {

class AdminCommandTest : public ProgramTest {
 protected:
  explicit AdminCommandTest(const std::string& lease_ttl = "10s")
      : ProgramTest({.flags = {"--lease-ttl", lease_ttl}}) {}

  // Starts a process that holds a block of `size`.
  LeaseClientProcess Holder(Bytes size) {
    LeaseClientProcess holder({"hold", daemon_.socket(), std::to_string(size.value())});
    EXPECT_EQ(holder.ReadLine().substr(0, 5), "held ");
    return holder;
  }
  v1::Session OnlySession() {
    const v1::ListSessionsResponse list = daemon_.ListSessions();
    EXPECT_EQ(list.sessions_size(), 1);
    return list.sessions_size() == 1 ? list.sessions(0) : v1::Session();
  }
};

class SilentClientTest : public AdminCommandTest {
 protected:
  SilentClientTest() : AdminCommandTest("300ms") {}

  // Waits until the only session is suspended for this reason, and returns its explanation.
  Outcome ExplainOnce(const std::string& cause) {
    EXPECT_TRUE(Eventually([&] { return OnlySession().cause() == cause; }));
    return Tenurectl("explain " + std::to_string(OnlySession().session_id()));
  }
};

TEST_F(AdminCommandTest, ExplainSaysWhatAnActiveSessionHolds) {
  const LeaseClientProcess holder = Holder(MiB(3));
  const std::string session = std::to_string(OnlySession().session_id());
  for (const std::string& id : {session, std::to_string(holder.pid())}) {
    const Outcome outcome = Tenurectl("explain " + id);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_TRUE(outcome.Says("session " + session + ": process " + std::to_string(holder.pid()) +
                             " (lease_client, uid:" + std::to_string(getuid()) +
                             ") holds 1 allocation, 4 MiB in 1 region of 4 MiB."))
        << outcome.output;
    EXPECT_TRUE(outcome.Says("Its keep-alives come in time; the next is due within "))
        << outcome.output;
  }
  const Json json = Tenurectl("explain --json " + session).json();
  EXPECT_EQ(json.at("sessions").at(0).at("state"), "ACTIVE");
  EXPECT_EQ(json.at("sessions").at(0).at("requested_bytes"), MiB(3).value());
  EXPECT_TRUE(json.at("quarantines").empty());
}

TEST_F(SilentClientTest, ExplainSaysHowToContinueAStoppedClient) {
  const LeaseClientProcess holder = Holder(MiB(3));
  ASSERT_EQ(kill(holder.pid(), SIGSTOP), 0);
  const Outcome outcome = ExplainOnce("stopped");
  EXPECT_TRUE(outcome.Says("The process is stopped, by SIGSTOP or a debugger.")) << outcome.output;
  EXPECT_TRUE(outcome.Says(" overdue: it is granted nothing new and keeps what it holds."));
  EXPECT_TRUE(outcome.Says("`kill -CONT " + std::to_string(holder.pid()) + "` continues it."));
  ASSERT_EQ(kill(holder.pid(), SIGCONT), 0);
  EXPECT_TRUE(Eventually([&] { return OnlySession().state() == "ACTIVE"; }));
}

TEST_F(SilentClientTest, ExplainSaysWhatEndsAHungClient) {
  RawSession silent(daemon_.allocator());
  const Outcome outcome = ExplainOnce("hung");
  EXPECT_TRUE(outcome.Says("The process runs but sends no keep-alive.")) << outcome.output;
  EXPECT_TRUE(outcome.Says("`tenurectl revoke " + std::to_string(OnlySession().session_id()) +
                           "` kills it."));
}

TEST_F(AdminCommandTest, ExplainFindsAnAllocationAlsoUnderTheNumberOfASession) {
  absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket(), .map = false});
  ASSERT_TRUE(client.ok()) << client.status();
  const DeviceBuffer small = *client->Allocate(Bytes(1000));
  const DeviceBuffer large = *client->Allocate(MiB(3));
  // Sessions and allocations are numbered separately, so one number may name both.
  ASSERT_EQ(small.allocation_id(), client->session_id());
  const std::string session = std::to_string(client->session_id());
  const Outcome pooled = Tenurectl("explain " + std::to_string(small.allocation_id()));
  EXPECT_TRUE(pooled.Says("allocation " + std::to_string(small.allocation_id()) +
                          ": 1 KiB for 1000 B asked for, from a pool, at offset "))
      << pooled.output;
  const Outcome direct = Tenurectl("explain " + std::to_string(large.allocation_id()));
  EXPECT_TRUE(direct.Says("a region of its own, at offset 0 B of region ")) << direct.output;
  EXPECT_TRUE(
      direct.Says("held by process " + std::to_string(getpid()) + " in session " + session));
  const Json json = Tenurectl("explain --json " + std::to_string(small.allocation_id())).json();
  EXPECT_EQ(json.at("allocations").at(0).at("allocation_id"),
            std::to_string(small.allocation_id()));
  EXPECT_EQ(json.at("allocations").at(0).at("placement"), "pool");
}

TEST_F(AdminCommandTest, ExplainSaysWhatADeadClientsMemoryWaitsFor) {
  LeaseClientProcess parent({"clone", daemon_.socket(), std::to_string(MiB(3).value())});
  const std::string line = parent.ReadLine();
  ASSERT_EQ(line.substr(0, 7), "forked ");
  const pid_t child = std::stoi(line.substr(7));
  const std::string session = std::to_string(OnlySession().session_id());
  const std::string pid = std::to_string(parent.pid());
  EXPECT_EQ(parent.Kill(), 128 + SIGKILL);
  const std::string reason = "the driver still lists process " + pid;
  ASSERT_TRUE(Eventually([&] {
    const v1::ListSessionsResponse list = daemon_.ListSessions();
    return list.quarantines_size() == 1 && list.quarantines(0).reason().rfind(reason, 0) == 0;
  }));
  for (const std::string& id : {session, pid}) {
    const Outcome outcome = Tenurectl("explain " + id);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_TRUE(outcome.Says("session " + session + ": process " + pid)) << outcome.output;
    EXPECT_TRUE(outcome.Says(" ago and left 4 MiB in 1 region.")) << outcome.output;
    EXPECT_TRUE(outcome.Says("It is not granted again yet: " + reason)) << outcome.output;
    EXPECT_TRUE(outcome.Says("fuser -v /dev/nvidia*")) << outcome.output;
  }
  const Json json = Tenurectl("explain --json " + session).json();
  EXPECT_EQ(json.at("quarantines").at(0).at("state"), "QUARANTINED");
  EXPECT_EQ(json.at("quarantines").at(0).at("quarantined_bytes"), MiB(4).value());
  EXPECT_EQ(Complaint("revoke " + session).exit_code, 5) << "the process is dead already";
  ASSERT_EQ(kill(child, SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return Tenurectl("explain " + session).exit_code == 5; }));
}

TEST_F(AdminCommandTest, UnknownNumbersAreExitCodeFive) {
  const Outcome explain = Complaint("explain 12345");
  EXPECT_EQ(explain.exit_code, 5);
  EXPECT_TRUE(explain.Says("no session, allocation, process or segment 12345")) << explain.output;
  EXPECT_TRUE(explain.Says("`tenurectl ps`")) << explain.output;
  const Outcome revoke = Complaint("revoke 12345");
  EXPECT_EQ(revoke.exit_code, 5);
  EXPECT_TRUE(revoke.Says("there is no session 12345; `tenurectl ps` lists them")) << revoke.output;
}

TEST_F(AdminCommandTest, TrimSaysHowMuchWentBack) {
  const uint64_t warm = daemon_.GetStats().warm_bytes();
  ASSERT_GT(warm, 0u);
  const Outcome trim = Tenurectl("trim");
  EXPECT_EQ(trim.exit_code, 0);
  EXPECT_EQ(trim.output, FormatBytes(Bytes(warm)) + " returned to the driver\n");
  EXPECT_EQ(daemon_.GetStats().reserved_bytes(), 0u);
  EXPECT_EQ(Tenurectl("trim --json").json(), Json({{"freed_bytes", 0}}));
}

TEST_F(AdminCommandTest, RevokeNamesTheProcessItKills) {
  for (const bool json : {false, true}) {
    LeaseClientProcess holder = Holder(MiB(3));
    const std::string session = std::to_string(OnlySession().session_id());
    const std::string pid = std::to_string(holder.pid());
    const Outcome revoke = Tenurectl("revoke " + session + (json ? " --json" : ""));
    EXPECT_EQ(revoke.exit_code, 0);
    if (json) {
      EXPECT_EQ(revoke.json(), Json({{"pid", holder.pid()}}));
    } else {
      EXPECT_EQ(revoke.output,
                "process " + pid +
                    " is killed; its memory comes back once the driver no longer lists it\n");
    }
    EXPECT_EQ(holder.WaitForEnd(), 128 + SIGKILL);
    EXPECT_TRUE(Eventually([&] {
      const v1::GetStatsResponse stats = daemon_.GetStats();
      return stats.leased_bytes() == 0 && stats.quarantined_bytes() == 0;
    }));
    EXPECT_EQ(Complaint("revoke " + session).exit_code, 5);
  }
}

TEST_F(AdminCommandTest, DrainSaysWhatTheDaemonWaitsFor) {
  LeaseClientProcess holder = Holder(MiB(3));
  const Outcome drain = Tenurectl("drain");
  EXPECT_EQ(drain.exit_code, 0);
  EXPECT_EQ(drain.output, "nothing new is granted; the daemon ends after the last of 1 session\n");
  EXPECT_EQ(Tenurectl("drain --json").json(), Json({{"sessions", 1}}));
  EXPECT_EQ(Tenurectl("status --json").exit_code, 0) << "it still serves the open sessions";
  holder.Kill();
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
  EXPECT_EQ(Complaint("drain").exit_code, 3);
}

TEST_F(AdminCommandTest, DrainOfAnIdleDaemonEndsIt) {
  const Outcome drain = Tenurectl("drain");
  EXPECT_EQ(drain.exit_code, 0);
  EXPECT_EQ(drain.output, "no session is open: the daemon ends now\n");
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
}

TEST_F(AdminCommandTest, WithoutADaemonEachIsExitCodeThree) {
  EXPECT_EQ(daemon_.Stop(), 0);
  for (const char* words : {"explain 1", "trim", "revoke 1", "drain"}) {
    const Outcome outcome = Complaint(words);
    EXPECT_EQ(outcome.exit_code, 3) << words;
    EXPECT_TRUE(outcome.Says("start it with `tenured`")) << outcome.output;
  }
}

TEST_F(AdminCommandTest, AUserWithoutPermissionGetsExitCodeSix) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  // The other user may not read this program's folder, so a copy of tenurectl is run.
  const std::string copy = daemon_.folder() + "/tenurectl";
  std::filesystem::copy_file(ProgramFolder() + "/tenurectl", copy);
  const auto by_stranger = [&](const std::string& arguments) {
    return RunInShell("setpriv --reuid 54321 --regid 54321 --clear-groups " + copy + " --socket " +
                      daemon_.socket() + " " + arguments + " </dev/null 2>&1");
  };
  ASSERT_EQ(chmod(daemon_.folder().c_str(), 0755), 0);
  ASSERT_EQ(chmod(daemon_.socket().c_str(), 0660), 0);
  const Outcome outside = by_stranger("trim");
  EXPECT_EQ(outside.exit_code, 6);
  EXPECT_TRUE(outside.Says("join the group that owns the socket")) << outside.output;

  ASSERT_EQ(chmod(daemon_.socket().c_str(), 0666), 0);
  const LeaseClientProcess holder = Holder(MiB(3));
  const std::string session = std::to_string(OnlySession().session_id());
  for (const std::string& words : {std::string("trim"), "revoke " + session,
                                   std::string("revoke 12345"), std::string("drain")}) {
    const Outcome outcome = by_stranger(words);
    EXPECT_EQ(outcome.exit_code, 6) << words;
    EXPECT_TRUE(outcome.Says("uid 54321 may not administer this daemon")) << outcome.output;
  }
  EXPECT_EQ(by_stranger("explain " + session).exit_code, 0) << "any user may explain";
  EXPECT_EQ(OnlySession().state(), "ACTIVE");
}

TEST_F(AdminCommandTest, MisuseIsExitCodeTwo) {
  for (const char* words : {"explain", "revoke", "revoke x", "trim x", "drain x", "revoke -1",
                            "revoke 99999999999999999999", "ls --session -1"}) {
    EXPECT_EQ(Complaint(words).exit_code, 2) << words;
  }
}

}  // namespace
}  // namespace tenure::testing
