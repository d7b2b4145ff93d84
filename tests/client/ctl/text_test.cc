// How tenurectl writes things down, for people and for programs.
#include "client/ctl/text.h"

#include <vector>

#include <gtest/gtest.h>

#include "client/ctl/exit_code.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/replay/books.h"
#include "client/ctl/replay/latency.h"
#include "client/ctl/replay/replay_report.h"
#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {
namespace {

TEST(Table, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({{"NAME"}, {"SIZE", Table::Align::kRight}});
  table.Add({"a", "1 B"});
  table.Add({"longer", "12.5 KiB"});
  EXPECT_EQ(table.ToString(), "NAME        SIZE\na            1 B\nlonger  12.5 KiB\n");
}

TEST(Text, BarShowsEvenALittle) {
  EXPECT_EQ(Bar(Bytes(0), Bytes(100), 4), "----");
  EXPECT_EQ(Bar(Bytes(1), Bytes(100), 4), "#---");
  EXPECT_EQ(Bar(Bytes(50), Bytes(100), 4), "##--");
  EXPECT_EQ(Bar(Bytes(200), Bytes(100), 4), "####");
  EXPECT_EQ(Bar(Bytes(0), Bytes(0), 4), "----");
}

TEST(Text, AgeHasTheTwoLargestUnits) {
  EXPECT_EQ(Age(0), "0 ms");
  EXPECT_EQ(Age(59'999), "59 s");
  EXPECT_EQ(Age(61'000), "1 min 1 s");
  EXPECT_EQ(Age(3'661'000), "1 h 1 min");
  EXPECT_EQ(Age(90'000'000), "1 d 1 h");
}

TEST(Text, OneThingIsNoMany) {
  EXPECT_EQ(Count(0, "session"), "0 sessions");
  EXPECT_EQ(Count(1, "session"), "1 session");
  EXPECT_EQ(Count(2, "session"), "2 sessions");
}

TEST(Text, NameOfASessionCannotSteerTheTerminal) {
  EXPECT_EQ(Printable("ab\x1b[2Jc\nd\x7f"), "ab?[2Jc?d?");
  EXPECT_EQ(Printable("Jürgen"), "Jürgen");
}

TEST(Text, NoColoursMeansNoEscapes) {
  EXPECT_EQ(Toned("x", Tone::kBad, /*colourful=*/false), "x");
  EXPECT_EQ(Toned("x", Tone::kBad, /*colourful=*/true), "\x1b[31mx\x1b[0m");
}

TEST(ProtoJson, IntegersStayIntegersAndEveryFieldIsThere) {
  v1::GetStatsResponse stats;
  stats.set_total_bytes(UINT64_MAX);
  stats.add_pools()->set_block_size_bytes(256);
  stats.mutable_totals();
  const nlohmann::ordered_json json = ToJson(stats);
  EXPECT_EQ(json.at("total_bytes").dump(), "18446744073709551615");
  EXPECT_EQ(json.at("driver_free_bytes").dump(), "0");
  EXPECT_EQ(json.at("health").dump(), "\"\"");
  EXPECT_EQ(
      json.at("pools").dump(),
      "[{\"block_size_bytes\":256,\"total_blocks\":0,\"allocated_blocks\":0,\"free_blocks\":0}]");
  EXPECT_EQ(json.at("totals").at("allocations").dump(), "0");
  EXPECT_TRUE(json.at("survival").is_null()) << "absent, and there all the same";
  EXPECT_EQ(static_cast<int>(json.size()), v1::GetStatsResponse::descriptor()->field_count());
}

TEST(ExitCodes, AreThoseOfTheContract) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus(), Stage::kCalling), 0);
  EXPECT_EQ(ExitCodeOf(absl::InternalError(""), Stage::kCalling), 1);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError(""), Stage::kCalling), 2);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError(""), Stage::kConnecting), 3);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError(""), Stage::kConnecting), 4);
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError(""), Stage::kCalling), 4);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError(""), Stage::kCalling), 5);
  EXPECT_EQ(ExitCodeOf(absl::PermissionDeniedError(""), Stage::kConnecting), 6);
}

v1::GetStatsResponse BalancedStats() {
  v1::GetStatsResponse stats;
  stats.set_total_bytes(100);
  stats.set_driver_free_bytes(50);
  stats.set_reserved_bytes(40);
  stats.set_other_bytes(10);
  stats.set_leased_bytes(25);
  stats.set_warm_bytes(10);
  stats.set_quarantined_bytes(5);
  stats.set_allocated_bytes(20);
  stats.set_requested_bytes(18);
  return stats;
}

TEST(Books, BalancedOnesPass) { EXPECT_EQ(CheckBooks(BalancedStats()), absl::OkStatus()); }

TEST(Books, EachRuleIsChecked) {
  v1::GetStatsResponse total = BalancedStats();
  total.set_other_bytes(11);
  EXPECT_FALSE(CheckBooks(total).ok());
  v1::GetStatsResponse reserved = BalancedStats();
  reserved.set_warm_bytes(11);
  EXPECT_FALSE(CheckBooks(reserved).ok());
  v1::GetStatsResponse requested = BalancedStats();
  requested.set_requested_bytes(21);
  EXPECT_FALSE(CheckBooks(requested).ok());
}

TEST(Books, SessionIsComparedWithWhatItsProcessHolds) {
  v1::Session session;
  session.set_allocations(2);
  session.set_allocated_bytes(512);
  session.set_requested_bytes(300);
  EXPECT_EQ(CheckHoldings(session, {2, Bytes(512), Bytes(300)}), absl::OkStatus());
  EXPECT_FALSE(CheckHoldings(session, {1, Bytes(512), Bytes(300)}).ok());
  EXPECT_FALSE(CheckHoldings(session, {2, Bytes(511), Bytes(300)}).ok());
  EXPECT_FALSE(CheckHoldings(session, {2, Bytes(512), Bytes(301)}).ok());
}

TEST(Latency, PercentilesAreWithinThreePercent) {
  LatencyHistogram histogram;
  for (int us = 1; us <= 10'000; ++us) histogram.Record(absl::Microseconds(us));
  EXPECT_NEAR(absl::ToDoubleMicroseconds(histogram.Percentile(50)), 5000, 160);
  EXPECT_NEAR(absl::ToDoubleMicroseconds(histogram.Percentile(99)), 9900, 320);
  EXPECT_EQ(LatencyHistogram().Percentile(99), absl::ZeroDuration());
}

TEST(Latency, ExtremesAreKept) {
  LatencyHistogram histogram;
  histogram.Record(-absl::Seconds(1));
  EXPECT_EQ(histogram.Percentile(100), absl::ZeroDuration());
  histogram.Record(absl::Hours(24 * 365));
  EXPECT_GT(histogram.Percentile(100), absl::Hours(1));
}

TEST(Latency, TravelsAsJson) {
  LatencyHistogram histogram;
  for (const int us : {1, 1, 77, 5000}) histogram.Record(absl::Microseconds(us));
  absl::StatusOr<LatencyHistogram> copy = LatencyHistogram::FromJson(histogram.ToJson());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(copy->count(), 4u);
  EXPECT_EQ(copy->Percentile(75), histogram.Percentile(75));
  copy->Merge(histogram);
  EXPECT_EQ(copy->count(), 8u);
  for (const char* json : {"[[1]]", "[[1,-1]]", "[[99999,1]]", "[1]", "[[\"a\",1]]"}) {
    EXPECT_FALSE(LatencyHistogram::FromJson(nlohmann::json::parse(json)).ok()) << json;
  }
}

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
