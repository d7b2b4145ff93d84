// The measurements of one replay worker, and their JSON form on the pipe to the parent.
#ifndef CLIENT_CTL_REPLAY_WORKER_RESULT_H_
#define CLIENT_CTL_REPLAY_WORKER_RESULT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include <nlohmann/json.hpp>

#include "client/ctl/replay/latency_histogram.h"
#include "common/bytes.h"
#include "common/clock.h"

namespace tenure::ctl {

struct WorkerResult {
  uint64_t operations = 0;  // allocations and frees
  uint64_t checks = 0;      // of the daemon's books; all of them balanced
  BootTime began;
  BootTime ended;
  Bytes peak_live;       // asked for and held at once by this worker
  Bytes peak_leased;     // regions of this worker's session, as seen at its checks
  Bytes total_leased;    // regions of all sessions, as seen at its checks
  Bytes total_reserved;  // regions of the daemon, as seen at its checks
  LatencyHistogram allocate;
  LatencyHistogram free;

  nlohmann::json ToJson() const;
  // Errors: INVALID_ARGUMENT: `json` was not made by ToJson.
  static absl::StatusOr<WorkerResult> FromJson(const nlohmann::json& json);
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_WORKER_RESULT_H_
