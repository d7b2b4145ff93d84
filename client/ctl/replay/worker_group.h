// The worker processes of a replay while they run.
#ifndef CLIENT_CTL_REPLAY_WORKER_GROUP_H_
#define CLIENT_CTL_REPLAY_WORKER_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "client/ctl/replay/replay_options.h"
#include "client/ctl/replay/replay_progress.h"
#include "client/ctl/replay/shared_live_bytes.h"
#include "client/ctl/replay/worker_outcome.h"
#include "client/ctl/replay/worker_process.h"

namespace tenure::ctl {

// Starts the workers, reads their lines and collects an outcome for each.
//
// Owns: the processes, which the destructor kills if they still run.
// Borrows: the options and the counters.
// Thread safety: thread-confined.
class WorkerGroup {
 public:
  WorkerGroup(const ReplayOptions& options, SharedLiveBytes& live_bytes)
      : options_(options), live_bytes_(live_bytes) {}

  absl::Status Start();
  // Reads what the workers write until all of them have ended.
  void Watch(ReplayProgress& progress);
  std::vector<WorkerOutcome> TakeOutcomes() { return std::move(outcomes_); }

 private:
  std::vector<std::string> ArgumentsOf(size_t worker) const;
  void ReadFrom(size_t worker);
  uint64_t Operations() const;

  const ReplayOptions& options_;
  SharedLiveBytes& live_bytes_;
  std::vector<WorkerProcess> processes_;
  std::vector<WorkerOutcome> outcomes_;  // one for each process, at the same index
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_WORKER_GROUP_H_
