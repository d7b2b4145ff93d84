#include "client/ctl/replay/replay_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/ctl/table.h"
#include "client/ctl/text.h"

namespace tenure::ctl {
namespace {

using Json = nlohmann::ordered_json;

double PerSecond(const ReplayReport& report) {
  const double seconds = absl::ToDoubleSeconds(report.elapsed);
  return seconds > 0 ? static_cast<double>(report.operations) / seconds : 0;
}

// The ratio of leased or reserved bytes to live bytes; 0 when no bytes were live.
double PerLive(Bytes part, Bytes live) {
  return live == Bytes(0) ? 0
                          : static_cast<double>(part.value()) / static_cast<double>(live.value());
}

std::string Micros(const LatencyHistogram& histogram) {
  return absl::StrFormat("p50 %.1f us, p99 %.1f us",
                         absl::ToDoubleMicroseconds(histogram.Percentile(50)),
                         absl::ToDoubleMicroseconds(histogram.Percentile(99)));
}

std::string OutcomeOf(const WorkerOutcome& worker) {
  if (!worker.error.empty()) return worker.error;
  if (!worker.death.empty()) return worker.death;
  return "done";
}

Table WorkerTable(const ReplayReport& report) {
  Table table({{"WORKER", Table::Align::kRight},
               {"PID", Table::Align::kRight},
               {"OPERATIONS", Table::Align::kRight},
               {"PEAK LIVE", Table::Align::kRight},
               {"PEAK LEASED", Table::Align::kRight},
               {"OUTCOME"}});
  for (size_t i = 0; i < report.workers.size(); ++i) {
    const WorkerOutcome& worker = report.workers[i];
    const bool known = worker.result.has_value();
    table.Add({absl::StrCat(i), absl::StrCat(worker.pid), absl::StrCat(worker.operations),
               known ? FormatBytes(worker.result->peak_live) : "?",
               known ? FormatBytes(worker.result->peak_leased) : "?", OutcomeOf(worker)});
  }
  return table;
}

// A histogram as JSON, with times in seconds.
Json Seconds(const LatencyHistogram& histogram) {
  return Json{{"count", histogram.count()},
              {"p50_seconds", absl::ToDoubleSeconds(histogram.Percentile(50))},
              {"p99_seconds", absl::ToDoubleSeconds(histogram.Percentile(99))}};
}

Json ToJson(const WorkerOutcome& worker) {
  Json json = {
      {"pid", worker.pid}, {"operations", worker.operations}, {"outcome", OutcomeOf(worker)}};
  if (worker.result) {
    json["peak_live_bytes"] = worker.result->peak_live.value();
    json["peak_leased_bytes"] = worker.result->peak_leased.value();
    json["checks"] = worker.result->checks;
  }
  return json;
}

}  // namespace

ReplayReport AddUp(std::vector<WorkerOutcome> workers, Bytes peak_live, bool deaths_allowed) {
  ReplayReport report;
  report.workers = std::move(workers);
  report.peak_live = peak_live;
  // Boot time is the same clock in all processes, so the workers' times can be compared.
  BootTime began = absl::InfiniteDuration();
  BootTime ended = -absl::InfiniteDuration();
  for (size_t i = 0; i < report.workers.size(); ++i) {
    const WorkerOutcome& worker = report.workers[i];
    report.operations += worker.operations;
    if (!worker.death.empty()) ++report.deaths;
    const bool failed = !worker.error.empty() || (!worker.death.empty() && !deaths_allowed);
    if (failed && report.first_error.empty()) {
      report.first_error =
          absl::StrCat("worker ", i, " (pid ", worker.pid, "): ", OutcomeOf(worker));
    }
    // A dead worker has reported its operations and no result.
    if (!worker.result) continue;
    report.checks += worker.result->checks;
    began = std::min(began, worker.result->began);
    ended = std::max(ended, worker.result->ended);
    // Each worker saw the memory of all sessions at its checks. So the peak is the largest of these
    // values, and not their sum.
    report.peak_leased = std::max(report.peak_leased, worker.result->total_leased);
    report.peak_reserved = std::max(report.peak_reserved, worker.result->total_reserved);
    report.allocate.Merge(worker.result->allocate);
    report.free.Merge(worker.result->free);
  }
  if (ended > began) report.elapsed = ended - began;
  return report;
}

std::string ToText(const ReplayReport& report, const ReplayOptions& options) {
  std::string text = absl::StrFormat("replayed %s, %u time(s) by each of %u worker(s)\n",
                                     options.trace, options.repeat, options.workers);
  absl::StrAppend(
      &text,
      absl::StrFormat("operations     %u in %.2f s: %.0f/s\n", report.operations,
                      absl::ToDoubleSeconds(report.elapsed), PerSecond(report)),
      "allocate       ", Micros(report.allocate), "\n", "free           ", Micros(report.free),
      "\n", "peak live      ", FormatBytes(report.peak_live), "\n",
      absl::StrFormat("peak leased    %s, %.3f of live\n", FormatBytes(report.peak_leased),
                      PerLive(report.peak_leased, report.peak_live)),
      absl::StrFormat("peak reserved  %s, %.3f of live\n", FormatBytes(report.peak_reserved),
                      PerLive(report.peak_reserved, report.peak_live)),
      "books          checked ", report.checks, " times, ",
      report.first_error.empty() ? "always balanced\n" : "see the error\n",
      WorkerTable(report).ToString());
  return text;
}

Json ToJson(const ReplayReport& report, const ReplayOptions& options) {
  Json workers = Json::array();
  for (const WorkerOutcome& worker : report.workers) workers.push_back(ToJson(worker));
  return Json{{"trace", options.trace},
              {"repeat", options.repeat},
              {"ok", report.first_error.empty()},
              {"error", report.first_error},
              {"deaths", report.deaths},
              {"operations", report.operations},
              {"seconds", absl::ToDoubleSeconds(report.elapsed)},
              {"operations_per_second", PerSecond(report)},
              {"allocate", Seconds(report.allocate)},
              {"free", Seconds(report.free)},
              {"peak_live_bytes", report.peak_live.value()},
              {"peak_leased_bytes", report.peak_leased.value()},
              {"peak_reserved_bytes", report.peak_reserved.value()},
              {"leased_per_live", PerLive(report.peak_leased, report.peak_live)},
              {"reserved_per_live", PerLive(report.peak_reserved, report.peak_live)},
              {"checks", report.checks},
              {"workers", std::move(workers)}};
}

}  // namespace tenure::ctl
