#include <errno.h>
#include <poll.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/ctl/replay/live_totals.h"
#include "client/ctl/replay/replay.h"
#include "client/ctl/replay/replay_progress.h"
#include "client/ctl/replay/replay_report.h"
#include "client/ctl/replay/trace.h"
#include "client/ctl/replay/worker_process.h"
#include "client/session/socket_probe.h"

namespace tenure::ctl {
namespace {

// The workers while they run.
//
// Thread safety: thread-confined.
class Crew {
 public:
  Crew(const ReplayOptions& options, LiveTotals& totals) : options_(options), totals_(totals) {}

  absl::Status Start() {
    for (size_t i = 0; i < options_.workers; ++i) {
      absl::StatusOr<WorkerProcess> process = WorkerProcess::Spawn(ArgumentsOf(i), totals_.fd());
      if (!process.ok()) return process.status();
      outcomes_.emplace_back().pid = process->pid();
      processes_.push_back(*std::move(process));
    }
    return absl::OkStatus();
  }

  // Takes in what the workers say until all of them have ended.
  void Watch(ReplayProgress& progress) {
    while (true) {
      std::vector<pollfd> open;
      std::vector<size_t> worker;
      for (size_t i = 0; i < processes_.size(); ++i) {
        if (processes_[i].fd() < 0) continue;
        open.push_back({.fd = processes_[i].fd(), .events = POLLIN, .revents = 0});
        worker.push_back(i);
      }
      if (open.empty()) return;
      if (poll(open.data(), open.size(), 100) < 0 && errno != EINTR) return;
      for (size_t i = 0; i < open.size(); ++i) {
        if (open[i].revents != 0) Hear(worker[i]);
      }
      progress.Show(Operations(), open.size());
    }
  }

  std::vector<WorkerOutcome> TakeOutcomes() { return std::move(outcomes_); }

 private:
  std::vector<std::string> ArgumentsOf(size_t worker) const {
    std::vector<std::string> arguments = {
        "replay-worker", options_.trace,
        "--socket",      options_.socket,
        "--repeat",      absl::StrCat(options_.repeat),
        "--check-every", absl::StrCat(options_.check_every),
        "--hold-at-end", absl::StrCat(absl::ToDoubleSeconds(options_.hold_at_end)),
        "--totals-fd",   absl::StrCat(totals_.fd()),
        "--worker",      absl::StrCat(worker)};
    if (!options_.map) arguments.push_back("--no-map");
    return arguments;
  }

  void Hear(size_t worker) {
    WorkerOutcome& outcome = outcomes_[worker];
    for (const std::string& line : processes_[worker].ReadLines()) Understand(line, outcome);
    if (processes_[worker].fd() >= 0) return;
    outcome.death = processes_[worker].AwaitEnd();
    if (!outcome.result) totals_.Retire(worker);
    if (outcome.death.empty() && outcome.error.empty() && !outcome.result) {
      outcome.death = "ended without a result";
    }
  }

  static void Understand(const std::string& line, WorkerOutcome& outcome) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return;
    if (json.contains("operations") && json["operations"].is_number_unsigned()) {
      outcome.operations = json["operations"].get<uint64_t>();
    }
    if (json.contains("error") && json["error"].is_string()) {
      outcome.error = json["error"].get<std::string>();
    }
    if (json.contains("result")) {
      const absl::StatusOr<WorkerResult> result = WorkerResult::FromJson(json["result"]);
      if (!result.ok()) return;
      outcome.result = *result;
      outcome.operations = result->operations;
    }
  }

  uint64_t Operations() const {
    uint64_t operations = 0;
    for (const WorkerOutcome& outcome : outcomes_) operations += outcome.operations;
    return operations;
  }

  const ReplayOptions& options_;
  LiveTotals& totals_;
  std::vector<WorkerProcess> processes_;
  std::vector<WorkerOutcome> outcomes_;
};

// What the trace's first line promises, for all workers and rounds; 0 when it promises nothing.
uint64_t ExpectedOperations(const TraceReader& trace, const ReplayOptions& options) {
  const auto events = trace.header().find("events");
  if (events == trace.header().end() || !events->is_number_unsigned()) return 0;
  return events->get<uint64_t>() * options.repeat * options.workers;
}

}  // namespace

ExitCode RunReplay(const ReplayOptions& options) {
  const absl::Status reachable = CheckSocket(options.socket);
  if (!reachable.ok()) return Fail(reachable, Stage::kConnecting);
  uint64_t expected = 0;
  {
    const absl::StatusOr<std::unique_ptr<TraceReader>> trace = TraceReader::Open(options.trace);
    if (!trace.ok()) return Fail(trace.status(), Stage::kCalling);
    expected = ExpectedOperations(**trace, options);
  }
  absl::StatusOr<LiveTotals> totals = LiveTotals::Create();
  if (!totals.ok()) return Fail(totals.status(), Stage::kCalling);
  Crew crew(options, *totals);
  const absl::Status started = crew.Start();
  if (!started.ok()) return Fail(started, Stage::kCalling);
  {
    ReplayProgress progress(expected, /*silent=*/options.json);
    crew.Watch(progress);
  }
  const ReplayReport report = AddUp(crew.TakeOutcomes(), totals->peak(), options.allow_deaths);
  if (options.json) {
    std::cout << ToJson(report, options).dump(2) << "\n";
  } else {
    std::cout << ToText(report, options);
  }
  if (report.first_error.empty()) return kOk;
  std::cerr << "tenurectl: " << report.first_error << "\n";
  return kFailure;
}

}  // namespace tenure::ctl
