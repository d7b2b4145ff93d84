// tenurectl's reports about survival: segments and the sessions that use them, and a daemon that
// was started again.
#include <signal.h>

#include <string>

#include <gtest/gtest.h>

#include "client/client.h"
#include "common/bytes.h"
#include "tests/integration/program_fixture.h"
#include "tests/integration/segment_fixture.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {
namespace {

class SurvivalCommandTest : public ::testing::Test {
 protected:
  Outcome Tenurectl(const std::string& arguments) {
    return RunInShell(ProgramFolder() + "/tenurectl --socket " + daemon_.socket() + " " +
                      arguments + " 2>&1 </dev/null");
  }
  Json Survival() { return Tenurectl("status --json").json().at("survival"); }
  Client Connect(const std::string& name) {
    absl::StatusOr<Client> client = Client::Connect(
        {.socket = daemon_.socket(), .name = name, .memory_kind = MemoryKind::kVmmFd});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  KeptDaemon daemon_;
};

TEST_F(SurvivalCommandTest, StatusSaysWhatADaemonHasRestored) {
  const Json first = Survival();
  EXPECT_EQ(first.at("state"), "ON");
  EXPECT_GT(first.at("max_stored_descriptors"), 0);
  EXPECT_TRUE(first.at("recovered").is_null()) << "its first life";
  Client client = Connect("survivor");
  const absl::StatusOr<DeviceBuffer> buffer = client.Allocate(MiB(5));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const absl::StatusOr<Segment> segment = PublishPattern(client, "weights", {MiB(3), MiB(6)});
  ASSERT_TRUE(segment.ok()) << segment.status();
  const uint64_t epoch = daemon_.GetStats().epoch();

  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  const Json stats = Tenurectl("status --json").json();
  EXPECT_EQ(stats.at("segments"), 1);
  EXPECT_EQ(stats.at("attachments"), 1);
  EXPECT_EQ(stats.at("segment_bytes"), MiB(4 + 6).value());
  const Json recovered = stats.at("survival").at("recovered");
  EXPECT_EQ(recovered.at("previous_epoch"), epoch);
  EXPECT_EQ(recovered.at("sessions"), 1);
  EXPECT_EQ(recovered.at("dead_sessions"), 0);
  EXPECT_EQ(recovered.at("allocations"), 1);
  EXPECT_EQ(recovered.at("segments"), 1);
  EXPECT_EQ(recovered.at("regions"), 3);
  EXPECT_EQ(recovered.at("region_bytes"), MiB(6 + 4 + 6).value());
  EXPECT_EQ(recovered.at("lost_regions"), 0);
  const Outcome screen = Tenurectl("status");
  EXPECT_TRUE(screen.Says("restored from epoch " + std::to_string(epoch) +
                          ": 1 session with 1 allocation, 1 segment, 16 MiB in 3 regions"))
      << screen.output;
  EXPECT_TRUE(screen.Says("1: 10 MiB, attached 1 time")) << screen.output;
}

TEST_F(SurvivalCommandTest, StatusSaysWhenTheSupervisorHasEnded) {
  const pid_t daemon = daemon_.daemon_pid();
  ASSERT_EQ(kill(daemon_.keeper_pid(), SIGKILL), 0);
  ASSERT_EQ(daemon_.WaitForEnd(), 128 + SIGKILL);
  EXPECT_EQ(Survival().at("state"), "LOST");
  const Outcome screen = Tenurectl("status");
  EXPECT_TRUE(screen.Says("LOST, the supervisor has ended")) << screen.output;
  EXPECT_EQ(kill(daemon, SIGTERM), 0);
}

TEST_F(SurvivalCommandTest, ExplainNamesTheSessionsOfASegmentAndTheSegmentsOfASession) {
  Client publisher = Connect("publisher");
  absl::StatusOr<Segment> segment = PublishPattern(publisher, "llama", {MiB(3), MiB(6)});
  ASSERT_TRUE(segment.ok()) << segment.status();
  Client reader = Connect("reader");
  const absl::StatusOr<Segment> one = reader.Attach("llama");
  const absl::StatusOr<Segment> another = reader.Attach("llama");
  ASSERT_TRUE(one.ok() && another.ok());
  const Outcome explained = Tenurectl("explain llama");
  EXPECT_EQ(explained.exit_code, 0);
  EXPECT_TRUE(explained.Says("holds 9 MiB of kind VMM_FD in 2 blocks")) << explained.output;
  EXPECT_TRUE(explained.Says("and after the daemon's process ends")) << explained.output;
  EXPECT_TRUE(explained.Says("Attached 2 times by session " + std::to_string(reader.session_id())))
      << explained.output;
  EXPECT_TRUE(explained.Says("(publisher, ")) << explained.output;
  const Outcome session = Tenurectl("explain " + std::to_string(reader.session_id()));
  EXPECT_TRUE(session.Says("It is attached 2 times to segment 'llama'")) << session.output;
  EXPECT_EQ(Tenurectl("explain --json llama").json().at("segments").at(0).at("name"), "llama");
  EXPECT_EQ(Tenurectl("explain nobody").exit_code, 5);
}

TEST_F(SurvivalCommandTest, ExplainNamesTheLoaderOfASegment) {
  Client client = Connect("loader");
  const absl::StatusOr<Segment> segment = client.AttachOrLoad("slow", [&](Client& loader) {
    const Outcome explained = Tenurectl("explain slow");
    EXPECT_TRUE(explained.Says("is being loaded and not yet published")) << explained.output;
    EXPECT_TRUE(explained.Says("Loaded by session ")) << explained.output;
    const Outcome session = Tenurectl("explain " + std::to_string(loader.session_id()));
    EXPECT_TRUE(session.Says("It loads segment 'slow'")) << session.output;
    return MakeContents(loader, {MiB(2)});
  });
  EXPECT_TRUE(segment.ok()) << segment.status();
}

}  // namespace
}  // namespace tenure::testing
