// Replaying a recorded trace through the daemon: what is asked for, what each worker finds out,
// what it adds up to.
#ifndef CLIENT_CTL_REPLAY_REPLAY_H_
#define CLIENT_CTL_REPLAY_REPLAY_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "client/ctl/exit_code.h"
#include "client/ctl/replay/latency.h"
#include "common/bytes.h"
#include "common/clock.h"

namespace tenure::ctl {

struct ReplayOptions {
  std::string socket;
  std::string trace;
  uint64_t workers = 1;
  uint64_t repeat = 1;
  // Operations of a worker between two looks at the books.
  uint64_t check_every = 1000;
  bool map = true;
  // Workers hold what the trace leaves allocated for so long before they end.
  absl::Duration hold_at_end;
  // A killed worker is reported and does not make the replay fail.
  bool allow_deaths = false;
  bool json = false;
};

// What one worker found out.
struct WorkerResult {
  uint64_t operations = 0;  // allocations and frees
  uint64_t checks = 0;      // looks at the books, all of them balanced
  BootTime began;
  BootTime ended;
  Bytes peak_live;       // asked for and held at once by this worker
  Bytes peak_leased;     // regions of this worker's session, as seen at its looks
  Bytes total_leased;    // regions of all sessions, as seen at its looks
  Bytes total_reserved;  // regions of the daemon, as seen at its looks
  LatencyHistogram allocate;
  LatencyHistogram free;

  nlohmann::json ToJson() const;
  // INVALID_ARGUMENT: not what ToJson makes.
  static absl::StatusOr<WorkerResult> FromJson(const nlohmann::json& json);
};

// The parent: starts the workers, shows how far they are, adds up.
ExitCode RunReplay(const ReplayOptions& options);

// A worker, in a process of its own: replays the trace and writes lines for the parent to stdout.
// `totals_fd` is the parent's LiveTotals.
ExitCode RunReplayWorker(const ReplayOptions& options, size_t worker, int totals_fd);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_REPLAY_H_
