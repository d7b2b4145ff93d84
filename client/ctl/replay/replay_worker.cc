#include "client/ctl/replay/replay_worker.h"

#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/client.h"
#include "client/ctl/replay/books_check.h"
#include "client/ctl/replay/shared_live_bytes.h"
#include "client/ctl/replay/trace.h"
#include "client/ctl/replay/worker_result.h"
#include "client/ctl/stats_client.h"
#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

constexpr absl::Duration kProgressEvery = absl::Milliseconds(200);

BootTime Now() { return SystemClock().Now(); }

// Each line is flushed: the parent shows the progress, and a killed worker cannot flush any more.
void WriteLine(const nlohmann::json& line) {
  // A message may hold bytes that are no UTF-8, such as those of a path.
  std::cout << line.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false,
                         nlohmann::json::error_handler_t::replace)
            << std::endl;
}

// Replays a trace in one session.
//
// Invariants: holdings_ is the sum of the blocks in live_.
// Thread safety: thread-confined.
class Replayer {
 public:
  Replayer(Client client, StatsClient stats, const ReplayOptions& options, size_t worker,
           SharedLiveBytes& live_bytes)
      : client_(std::move(client)),
        stats_(std::move(stats)),
        options_(options),
        worker_(worker),
        live_bytes_(live_bytes) {}

  // Replays the whole trace once. Blocks that the trace does not free stay allocated.
  absl::Status Replay() {
    TENURE_ASSIGN_OR_RETURN(const std::unique_ptr<TraceReader> trace,
                            TraceReader::Open(options_.trace));
    while (true) {
      TENURE_ASSIGN_OR_RETURN(const std::optional<TraceEvent> event, trace->Next());
      if (!event) return CheckDaemon();
      TENURE_RETURN_IF_ERROR(Apply(*event));
    }
  }

  absl::Status FreeAll() {
    while (!live_.empty()) TENURE_RETURN_IF_ERROR(Free(live_.begin()->first));
    return CheckDaemon();
  }

  WorkerResult& result() { return result_; }

 private:
  absl::Status Apply(const TraceEvent& event) {
    absl::Status status =
        event.kind == TraceEvent::Kind::kAllocate ? Allocate(event.id, event.size) : Free(event.id);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("operation ", result_.operations + 1, ": ",
                                                      status.message()));
    }
    if (result_.operations % options_.check_every == 0) status = CheckDaemon();
    ReportProgress();
    return status;
  }

  absl::Status Allocate(uint64_t id, Bytes size) {
    const BootTime before = Now();
    TENURE_ASSIGN_OR_RETURN(DeviceBuffer buffer, client_.Allocate(size));
    result_.allocate.Record(Now() - before);
    ++result_.operations;
    ++holdings_.allocations;
    holdings_.granted += buffer.size();
    holdings_.requested += size;
    live_.emplace(id, std::move(buffer));
    result_.peak_live = std::max(result_.peak_live, holdings_.requested);
    // The report compares the peak of leased memory with the peak of live bytes. So the daemon is
    // also checked whenever a peak has grown by 1/64: this worker's, or that of all workers.
    const bool grown = live_bytes_.Add(worker_, size);
    if (!grown && holdings_.requested <= check_above_) return absl::OkStatus();
    check_above_ =
        std::max(check_above_, holdings_.requested + Bytes(holdings_.requested.value() / 64));
    return CheckDaemon();
  }

  absl::Status Free(uint64_t id) {
    // TraceReader has checked that the id is live.
    const auto found = live_.find(id);
    DeviceBuffer buffer = std::move(found->second);
    live_.erase(found);
    --holdings_.allocations;
    holdings_.granted -= buffer.size();
    holdings_.requested -= buffer.requested();
    live_bytes_.Subtract(worker_, buffer.requested());
    // Release and not the destructor, which would only queue the free: the time of the answer is
    // measured, and the next check compares the books.
    const BootTime before = Now();
    TENURE_RETURN_IF_ERROR(buffer.Release());
    result_.free.Record(Now() - before);
    ++result_.operations;
    return absl::OkStatus();
  }

  // Checks that the daemon's books balance and agree with this process about its session; notes how
  // much is leased and reserved.
  absl::Status CheckDaemon() {
    TENURE_ASSIGN_OR_RETURN(const v1::GetStatsResponse stats, stats_.GetStats());
    TENURE_ASSIGN_OR_RETURN(const v1::ListSessionsResponse list, stats_.ListSessions());
    absl::Status status = CheckBooks(stats);
    const auto own = std::find_if(
        list.sessions().begin(), list.sessions().end(),
        [&](const v1::Session& session) { return session.session_id() == client_.session_id(); });
    if (own == list.sessions().end()) {
      status.Update(absl::InternalError("the daemon does not list this worker's session"));
      return status;
    }
    status.Update(CheckHoldings(*own, holdings_));
    result_.peak_leased = std::max(result_.peak_leased, Bytes(own->leased_bytes()));
    result_.total_leased = std::max(result_.total_leased, Bytes(stats.leased_bytes()));
    result_.total_reserved = std::max(result_.total_reserved, Bytes(stats.reserved_bytes()));
    ++result_.checks;
    return status;
  }

  void ReportProgress() {
    const BootTime now = Now();
    if (now < report_at_) return;
    report_at_ = now + kProgressEvery;
    WriteLine({{"operations", result_.operations}});
  }

  Client client_;
  const StatsClient stats_;
  const ReplayOptions& options_;
  const size_t worker_;
  SharedLiveBytes& live_bytes_;
  absl::flat_hash_map<uint64_t, DeviceBuffer> live_;
  Holdings holdings_;
  Bytes check_above_;
  BootTime report_at_;
  WorkerResult result_;
};

absl::Status Work(const ReplayOptions& options, size_t worker, int live_bytes_fd) {
  TENURE_ASSIGN_OR_RETURN(SharedLiveBytes live_bytes, SharedLiveBytes::Open(live_bytes_fd));
  TENURE_ASSIGN_OR_RETURN(
      const Client client,
      Client::Connect(
          {.socket = options.socket, .name = absl::StrCat("replay-", worker), .map = options.map}));
  TENURE_ASSIGN_OR_RETURN(const StatsClient stats, StatsClient::Open(options.socket));
  Replayer replayer(client, stats, options, worker, live_bytes);
  replayer.result().began = Now();
  for (uint64_t round = 0; round < options.repeat; ++round) {
    TENURE_RETURN_IF_ERROR(replayer.Replay());
    // After the last round the blocks stay allocated, for --hold-at-end.
    const bool last = round + 1 == options.repeat;
    if (!last) TENURE_RETURN_IF_ERROR(replayer.FreeAll());
  }
  const BootTime held_from = Now();
  if (options.hold_at_end > absl::ZeroDuration()) {
    WriteLine({{"operations", replayer.result().operations}});
    absl::SleepFor(options.hold_at_end);
  }
  // The time of the pause is subtracted, so that it does not lower the rate of operations.
  const absl::Duration held = Now() - held_from;
  TENURE_RETURN_IF_ERROR(replayer.FreeAll());
  replayer.result().ended = Now() - held;
  WriteLine({{"result", replayer.result().ToJson()}});
  return absl::OkStatus();
}

}  // namespace

ExitCode RunReplayWorker(const ReplayOptions& options, size_t worker, int live_bytes_fd) {
  // The kernel kills the worker when its parent dies, because no process would read the result.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const absl::Status status = Work(options, worker, live_bytes_fd);
  if (!status.ok()) WriteLine({{"error", std::string(status.message())}});
  return status.ok() ? kOk : kFailure;
}

}  // namespace tenure::ctl
