#include "client/ctl/replay/replay_command.h"

#include <iostream>
#include <memory>

#include "absl/status/statusor.h"

#include "client/ctl/proto_json.h"
#include "client/ctl/replay/replay_progress.h"
#include "client/ctl/replay/replay_report.h"
#include "client/ctl/replay/shared_live_bytes.h"
#include "client/ctl/replay/trace.h"
#include "client/ctl/replay/worker_group.h"
#include "client/ctl/text.h"
#include "client/session/socket_probe.h"
#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

// The number of operations of all workers and rounds, from the trace's first line; 0 when that line
// does not say.
absl::StatusOr<uint64_t> ExpectedOperations(const ReplayOptions& options) {
  TENURE_ASSIGN_OR_RETURN(const std::unique_ptr<TraceReader> trace,
                          TraceReader::Open(options.trace));
  const auto events = trace->header().find("events");
  if (events == trace->header().end() || !events->is_number_unsigned()) return 0;
  return events->get<uint64_t>() * options.repeat * options.workers;
}

}  // namespace

ExitCode RunReplay(const ReplayOptions& options) {
  // The socket and the trace are checked here, so that each mistake is reported once and not by
  // every worker.
  const absl::Status reachable = CheckSocket(options.socket);
  if (!reachable.ok()) return Fail(reachable, Stage::kConnecting);
  const absl::StatusOr<uint64_t> expected = ExpectedOperations(options);
  if (!expected.ok()) return Fail(expected.status(), Stage::kCalling);
  absl::StatusOr<SharedLiveBytes> live_bytes = SharedLiveBytes::Create();
  if (!live_bytes.ok()) return Fail(live_bytes.status(), Stage::kCalling);
  WorkerGroup workers(options, *live_bytes);
  const absl::Status started = workers.Start();
  if (!started.ok()) return Fail(started, Stage::kCalling);
  {
    // Ends before the report is printed: its destructor erases the progress line.
    ReplayProgress progress(*expected, /*silent=*/options.json);
    workers.Watch(progress);
  }
  const ReplayReport report =
      AddUp(workers.TakeOutcomes(), live_bytes->peak(), options.allow_deaths);
  if (options.json) {
    std::cout << TextOf(ToJson(report, options)) << "\n";
  } else {
    std::cout << ToText(report, options);
  }
  if (report.first_error.empty()) return kOk;
  std::cerr << "tenurectl: " << Printable(report.first_error) << "\n";
  return kFailure;
}

}  // namespace tenure::ctl
