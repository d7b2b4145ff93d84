// The sum of the workers of a replay, and the JSON form of a worker's result.
#include "client/ctl/replay/replay_report.h"

#include <gtest/gtest.h>

#include "client/ctl/replay/worker_result.h"

namespace tenure::ctl {
namespace {

WorkerOutcome Done(uint64_t operations, BootTime began, BootTime ended) {
  WorkerOutcome outcome;
  outcome.pid = 7;
  outcome.operations = operations;
  outcome.result.emplace();
  outcome.result->operations = operations;
  outcome.result->checks = 3;
  outcome.result->began = began;
  outcome.result->ended = ended;
  outcome.result->total_reserved = Bytes(operations);
  return outcome;
}

TEST(ReplayReport, AddsUpWhatTheWorkersDid) {
  const ReplayReport report = AddUp(
      {Done(10, absl::Seconds(1), absl::Seconds(3)), Done(20, absl::Seconds(2), absl::Seconds(6))},
      Bytes(10), /*deaths_allowed=*/false);
  EXPECT_EQ(report.operations, 30u);
  EXPECT_EQ(report.checks, 6u);
  EXPECT_EQ(report.elapsed, absl::Seconds(5));
  EXPECT_EQ(report.peak_reserved, Bytes(20));
  EXPECT_EQ(report.first_error, "");
}

TEST(ReplayReport, DeathIsAnErrorUnlessAllowed) {
  WorkerOutcome dead;
  dead.pid = 8;
  dead.death = "killed by signal 9 (Killed)";
  const WorkerOutcome done = Done(10, absl::Seconds(1), absl::Seconds(3));
  EXPECT_EQ(AddUp({done, dead}, Bytes(1), false).first_error,
            "worker 1 (pid 8): killed by signal 9 (Killed)");
  const ReplayReport allowed = AddUp({done, dead}, Bytes(1), true);
  EXPECT_EQ(allowed.first_error, "");
  EXPECT_EQ(allowed.deaths, 1u);
}

TEST(ReplayReport, WorkersErrorIsOneEvenWhereDeathsAreAllowed) {
  WorkerOutcome failed;
  failed.error = "unbalanced";
  EXPECT_NE(AddUp({failed}, Bytes(1), true).first_error, "");
}

TEST(WorkerResult, TravelsAsJson) {
  WorkerResult result;
  result.operations = 5;
  result.began = absl::Seconds(3);
  result.peak_live = GiB(9);
  result.free.Record(absl::Microseconds(4));
  const absl::StatusOr<WorkerResult> copy = WorkerResult::FromJson(result.ToJson());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(copy->operations, 5u);
  EXPECT_EQ(copy->began, absl::Seconds(3));
  EXPECT_EQ(copy->peak_live, GiB(9));
  EXPECT_EQ(copy->free.count(), 1u);
  EXPECT_FALSE(WorkerResult::FromJson(nlohmann::json::object()).ok());
  EXPECT_FALSE(WorkerResult::FromJson(nullptr).ok());
}

}  // namespace
}  // namespace tenure::ctl
