// tenurectl and the examples as programs, against a real daemon.
#include <signal.h>

#include <future>
#include <string>

#include "client/client.h"
#include "tests/integration/program_fixture.h"

namespace tenure::testing {
namespace {

constexpr char kTrace[] = TENURE_TEST_DATA "/small.trace.gz";

TEST_F(ProgramTest, StatusIsGetStats) {
  const Outcome outcome = Tenurectl("status --json");
  ASSERT_EQ(outcome.exit_code, 0);
  const v1::GetStatsResponse stats = daemon_.GetStats();
  EXPECT_EQ(outcome.json().at("device_uuid"), stats.device_uuid());
  EXPECT_EQ(outcome.json().at("total_bytes"), stats.total_bytes());
  EXPECT_EQ(outcome.json().at("health"), "SERVING");
  const Outcome screen = Tenurectl("status");
  EXPECT_EQ(screen.exit_code, 0);
  EXPECT_NE(screen.output.find(stats.device_uuid()), std::string::npos);
  EXPECT_EQ(screen.output.find('\x1b'), std::string::npos) << "no colours into a pipe";
}

TEST_F(ProgramTest, WhatCannotBeWrittenIsAFailure) {
  for (const char* command : {"status", "status --json", "ps", "ls --json", "segments", "trim"})
    EXPECT_EQ(Run("tenurectl", command, "2>/dev/null >/dev/full").exit_code, 1) << command;
}

TEST_F(ProgramTest, PsAndLsShowWhatAClientHolds) {
  absl::StatusOr<Client> client =
      Client::Connect({.socket = daemon_.socket(), .name = "holder", .map = false});
  ASSERT_TRUE(client.ok()) << client.status();
  const DeviceBuffer buffer = *client->Allocate(Bytes(1000));
  const std::string id = std::to_string(client->session_id());

  const Json session = Tenurectl("ps --json").json().at("sessions").at(0);
  EXPECT_EQ(session.at("name"), "holder");
  EXPECT_EQ(session.at("requested_bytes"), 1000);
  EXPECT_NE(Tenurectl("ps").output.find("holder"), std::string::npos);

  const Json allocation = Tenurectl("ls --json --session " + id).json().at("allocations").at(0);
  EXPECT_EQ(allocation.at("allocation_id"), std::to_string(buffer.allocation_id()));
  EXPECT_EQ(allocation.at("placement"), "pool");
  EXPECT_NE(Tenurectl("ls").output.find(id), std::string::npos);
}

TEST_F(ProgramTest, UnknownSessionIsExitCodeFive) {
  EXPECT_EQ(Tenurectl("ls --session 12345").exit_code, 5);
}

TEST_F(ProgramTest, LsShowsEveryPage) {
  absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket(), .map = false});
  ASSERT_TRUE(client.ok());
  std::vector<std::vector<DeviceBuffer>> batches;
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<std::vector<DeviceBuffer>> batch =
        client->AllocateBatch(std::vector<Bytes>(800, Bytes(256)));
    ASSERT_TRUE(batch.ok()) << batch.status();
    batches.push_back(*std::move(batch));
  }
  EXPECT_EQ(Tenurectl("ls --json").json().at("allocations").size(), 2400u);
}

TEST_F(ProgramTest, ReplayReplaysChecksTheBooksAndLeavesNothing) {
  const Outcome outcome = Tenurectl(std::string("replay ") + kTrace +
                                    " --workers 2 --repeat 2 --check-every 500 --json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const Json json = outcome.json();
  EXPECT_EQ(json.at("ok"), true);
  EXPECT_EQ(json.at("operations"), 4 * 4412);
  EXPECT_GE(json.at("checks"), 4 * (4412 / 500));
  // The peak of leased memory is seen at checks, between which it may grow by 1/64.
  EXPECT_GE(json.at("leased_per_live"), 0.9);
  for (const Json& worker : json.at("workers")) {
    EXPECT_EQ(worker.at("peak_live_bytes"), 6'641'120'856u);
  }
  EXPECT_EQ(daemon_.GetStats().active_sessions(), 0u);
  EXPECT_EQ(daemon_.GetStats().allocated_bytes(), 0u);
}

TEST_F(ProgramTest, ReplayWithoutMappingLoadsTheDaemonOnly) {
  const Outcome outcome = Tenurectl(std::string("replay ") + kTrace + " --no-map --json");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.json().at("operations"), 4412);
}

TEST_F(ProgramTest, ReplayOfNoTraceIsRefused) {
  EXPECT_EQ(Tenurectl("replay /dev/null").exit_code, 2);
  EXPECT_EQ(Tenurectl("replay /nonexistent").exit_code, 5);
}

TEST_F(ProgramTest, ReplayThatCannotBeServedNamesTheFirstError) {
  absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket(), .map = false});
  const absl::StatusOr<DeviceBuffer> hog = client->Allocate(GiB(12));
  ASSERT_TRUE(hog.ok()) << hog.status();
  const Outcome outcome = Tenurectl(std::string("replay ") + kTrace + " --json");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.json().at("ok"), false);
  EXPECT_NE(outcome.json().at("error").get<std::string>().find("worker 0"), std::string::npos);
}

TEST_F(ProgramTest, KilledWorkerOfAReplayIsReportedAndTheOthersFinish) {
  for (const std::string allow : {"", "--allow-deaths"}) {
    std::future<Outcome> replay = std::async(std::launch::async, [&] {
      return Tenurectl(std::string("replay ") + kTrace + " --workers 2 --hold-at-end 3600 --json " +
                       allow);
    });
    ASSERT_TRUE(Eventually([&] { return PidOf("replay-0") != 0 && PidOf("replay-1") != 0; }));
    const pid_t second = PidOf("replay-1");
    kill(PidOf("replay-0"), SIGKILL);
    ASSERT_TRUE(Eventually([&] { return PidOf("replay-0") == 0; }));
    EXPECT_EQ(PidOf("replay-1"), second);
    kill(second, SIGKILL);
    const Outcome outcome = replay.get();
    EXPECT_EQ(outcome.exit_code, allow.empty() ? 1 : 0) << outcome.output;
    EXPECT_EQ(outcome.json().at("deaths"), 2);
    EXPECT_TRUE(Eventually([&] { return daemon_.GetStats().leased_bytes() == 0; }));
  }
}

TEST_F(ProgramTest, InferenceWorkerComputesTheRightProduct) {
  const Outcome outcome = Run("inference_worker", "--repeat 3");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.output.find("request 3, "), std::string::npos) << outcome.output;
  EXPECT_EQ(daemon_.GetStats().active_sessions(), 0u);
}

}  // namespace
}  // namespace tenure::testing
