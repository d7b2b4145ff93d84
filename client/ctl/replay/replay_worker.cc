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
#include "client/ctl/replay/books.h"
#include "client/ctl/replay/live_totals.h"
#include "client/ctl/replay/replay.h"
#include "client/ctl/replay/trace.h"
#include "client/ctl/stats_client.h"

namespace tenure::ctl {
namespace {

constexpr absl::Duration kProgressEvery = absl::Milliseconds(200);

BootTime Now() { return SystemClock().Now(); }

void Tell(const nlohmann::json& line) { std::cout << line.dump() << std::endl; }

// One session that lives through a trace.
//
// Invariants: the holdings are the sum of the live blocks.
// Thread safety: thread-confined.
class Replayer {
 public:
  Replayer(Client client, StatsClient stats, const ReplayOptions& options, size_t worker,
           LiveTotals& totals)
      : client_(std::move(client)),
        stats_(std::move(stats)),
        options_(options),
        worker_(worker),
        totals_(totals) {}

  // The whole trace once; what it leaves allocated stays.
  absl::Status Replay() {
    absl::StatusOr<std::unique_ptr<TraceReader>> trace = TraceReader::Open(options_.trace);
    if (!trace.ok()) return trace.status();
    while (true) {
      const absl::StatusOr<std::optional<TraceEvent>> event = (*trace)->Next();
      if (!event.ok()) return event.status();
      if (!*event) return Look();
      const absl::Status applied = Apply(**event);
      if (!applied.ok()) return applied;
    }
  }

  absl::Status FreeAll() {
    while (!live_.empty()) {
      const absl::Status freed = Free(live_.begin()->first);
      if (!freed.ok()) return freed;
    }
    return Look();
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
    if (result_.operations % options_.check_every == 0) status = Look();
    ReportProgress();
    return status;
  }

  absl::Status Allocate(uint64_t id, Bytes size) {
    const BootTime before = Now();
    absl::StatusOr<DeviceBuffer> buffer = client_.Allocate(size);
    if (!buffer.ok()) return buffer.status();
    result_.allocate.Record(Now() - before);
    ++result_.operations;
    ++holdings_.allocations;
    holdings_.granted += buffer->size();
    holdings_.requested += size;
    live_.emplace(id, *std::move(buffer));
    result_.peak_live = std::max(result_.peak_live, holdings_.requested);
    // The highest reservation stands beside the highest use, so look whenever that grew by a
    // little: this worker's own, or that of all together.
    const bool grown = totals_.Add(worker_, size);
    if (!grown && holdings_.requested <= look_above_) return absl::OkStatus();
    look_above_ =
        std::max(look_above_, holdings_.requested + Bytes(holdings_.requested.value() / 64));
    return Look();
  }

  absl::Status Free(uint64_t id) {
    const auto found = live_.find(id);
    DeviceBuffer buffer = std::move(found->second);
    live_.erase(found);
    --holdings_.allocations;
    holdings_.granted -= buffer.size();
    holdings_.requested -= buffer.requested();
    totals_.Subtract(worker_, buffer.requested());
    const BootTime before = Now();
    const absl::Status freed = buffer.Release();
    if (!freed.ok()) return freed;
    result_.free.Record(Now() - before);
    ++result_.operations;
    return absl::OkStatus();
  }

  // One look at the daemon's books: that they balance, that they say of this session what it knows,
  // and how much is reserved.
  absl::Status Look() {
    const absl::StatusOr<v1::GetStatsResponse> stats = stats_.GetStats();
    if (!stats.ok()) return stats.status();
    const absl::StatusOr<v1::ListSessionsResponse> list = stats_.ListSessions();
    if (!list.ok()) return list.status();
    absl::Status status = CheckBooks(*stats);
    const auto own = std::find_if(
        list->sessions().begin(), list->sessions().end(),
        [&](const v1::Session& session) { return session.session_id() == client_.session_id(); });
    if (own == list->sessions().end()) {
      status.Update(absl::InternalError("the daemon does not list this worker's session"));
      return status;
    }
    status.Update(CheckHoldings(*own, holdings_));
    result_.peak_leased = std::max(result_.peak_leased, Bytes(own->leased_bytes()));
    result_.total_leased = std::max(result_.total_leased, Bytes(stats->leased_bytes()));
    result_.total_reserved = std::max(result_.total_reserved, Bytes(stats->reserved_bytes()));
    ++result_.checks;
    return status;
  }

  void ReportProgress() {
    const BootTime now = Now();
    if (now < report_at_) return;
    report_at_ = now + kProgressEvery;
    Tell({{"operations", result_.operations}});
  }

  Client client_;
  const StatsClient stats_;
  const ReplayOptions& options_;
  const size_t worker_;
  LiveTotals& totals_;
  absl::flat_hash_map<uint64_t, DeviceBuffer> live_;
  Holdings holdings_;
  Bytes look_above_;
  BootTime report_at_;
  WorkerResult result_;
};

absl::Status Work(const ReplayOptions& options, size_t worker, int totals_fd) {
  absl::StatusOr<LiveTotals> totals = LiveTotals::Open(totals_fd);
  if (!totals.ok()) return totals.status();
  const absl::StatusOr<Client> client = Client::Connect(
      {.socket = options.socket, .name = absl::StrCat("replay-", worker), .map = options.map});
  if (!client.ok()) return client.status();
  const absl::StatusOr<StatsClient> stats = StatsClient::Open(options.socket);
  if (!stats.ok()) return stats.status();
  Replayer replayer(*client, *stats, options, worker, *totals);
  replayer.result().began = Now();
  for (uint64_t round = 0; round < options.repeat; ++round) {
    const bool last = round + 1 == options.repeat;
    absl::Status status = replayer.Replay();
    if (status.ok() && !last) status = replayer.FreeAll();
    if (!status.ok()) return status;
  }
  const BootTime held_from = Now();
  if (options.hold_at_end > absl::ZeroDuration()) {
    Tell({{"operations", replayer.result().operations}});
    absl::SleepFor(options.hold_at_end);
  }
  const absl::Duration held = Now() - held_from;
  const absl::Status freed = replayer.FreeAll();
  if (!freed.ok()) return freed;
  replayer.result().ended = Now() - held;
  Tell({{"result", replayer.result().ToJson()}});
  return absl::OkStatus();
}

}  // namespace

ExitCode RunReplayWorker(const ReplayOptions& options, size_t worker, int totals_fd) {
  // Without a parent nobody wants the result.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const absl::Status status = Work(options, worker, totals_fd);
  if (!status.ok()) Tell({{"error", std::string(status.message())}});
  return status.ok() ? kOk : kFailure;
}

}  // namespace tenure::ctl
