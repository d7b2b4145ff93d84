#include "client/ctl/replay/worker_group.h"

#include <errno.h>
#include <poll.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

// Applies one line of a worker, see replay_worker.h. A line that is no JSON object is skipped: a
// library that the worker loaded may have printed it.
void ApplyLine(const std::string& line, WorkerOutcome& outcome) {
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

}  // namespace

absl::Status WorkerGroup::Start() {
  for (size_t i = 0; i < options_.workers; ++i) {
    TENURE_ASSIGN_OR_RETURN(WorkerProcess process,
                            WorkerProcess::Spawn(ArgumentsOf(i), live_bytes_.fd()));
    outcomes_.emplace_back().pid = process.pid();
    processes_.push_back(std::move(process));
  }
  return absl::OkStatus();
}

std::vector<std::string> WorkerGroup::ArgumentsOf(size_t worker) const {
  std::vector<std::string> arguments = {
      "replay-worker",   options_.trace,
      "--socket",        options_.socket,
      "--repeat",        absl::StrCat(options_.repeat),
      "--check-every",   absl::StrCat(options_.check_every),
      "--hold-at-end",   absl::StrCat(absl::ToDoubleSeconds(options_.hold_at_end)),
      "--live-bytes-fd", absl::StrCat(live_bytes_.fd()),
      "--worker",        absl::StrCat(worker)};
  if (!options_.map) arguments.push_back("--no-map");
  return arguments;
}

void WorkerGroup::Watch(ReplayProgress& progress) {
  while (true) {
    // The list is built in each round, because a worker that has ended has closed its pipe.
    std::vector<pollfd> open;
    std::vector<size_t> worker;
    for (size_t i = 0; i < processes_.size(); ++i) {
      if (processes_[i].fd() < 0) continue;
      open.push_back({.fd = processes_[i].fd(), .events = POLLIN, .revents = 0});
      worker.push_back(i);
    }
    if (open.empty()) return;
    // At most 100 ms, so that the progress line moves while no worker writes.
    if (poll(open.data(), open.size(), 100) < 0 && errno != EINTR) return;
    for (size_t i = 0; i < open.size(); ++i) {
      if (open[i].revents != 0) ReadFrom(worker[i]);
    }
    progress.Show(Operations(), open.size());
  }
}

void WorkerGroup::ReadFrom(size_t worker) {
  WorkerOutcome& outcome = outcomes_[worker];
  for (const std::string& line : processes_[worker].ReadLines()) ApplyLine(line, outcome);
  if (processes_[worker].fd() >= 0) return;
  // The pipe is closed, so the worker has ended or is ending, and this wait is short.
  outcome.death = processes_[worker].AwaitEnd();
  // A worker that ended with a result has subtracted its bytes itself.
  if (!outcome.result) live_bytes_.Retire(worker);
  if (outcome.death.empty() && outcome.error.empty() && !outcome.result) {
    outcome.death = "ended without a result";
  }
}

uint64_t WorkerGroup::Operations() const {
  uint64_t operations = 0;
  for (const WorkerOutcome& outcome : outcomes_) operations += outcome.operations;
  return operations;
}

}  // namespace tenure::ctl
