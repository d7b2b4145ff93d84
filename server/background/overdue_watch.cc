#include "server/background/overdue_watch.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tenure::server {

OverdueWatch::OverdueWatch(LeaseRegistry& registry, cuda::ProcessList* processes, Options options)
    : registry_(registry), processes_(processes), options_(std::move(options)) {}

void OverdueWatch::Check() {
  const absl::Duration unwatched = registry_.SuspendOverdue();
  if (unwatched >= kWorthALine && options_.on_pause) options_.on_pause(unwatched);
  const std::vector<OverdueProcess> overdue = registry_.OverdueProcesses(last_, kMostAtOnce);
  last_ = overdue.size() == kMostAtOnce ? overdue.back().peer->key() : ProcessKey();
  // The list is read once for all, and only if the decision about one depends on it: a process with
  // a connection is never taken to have exec'ed.
  absl::StatusOr<std::vector<pid_t>> listed = absl::UnavailableError("not read");
  const bool any_disconnected =
      std::any_of(overdue.begin(), overdue.end(), [this](const OverdueProcess& process) {
        return !options_.is_connected(process.peer->key());
      });
  if (any_disconnected && processes_ != nullptr) listed = processes_->ComputeProcesses();
  for (const OverdueProcess& process : overdue) {
    // The reaper reclaims it.
    if (process.peer->Exited()) continue;
    const ProcessKey key = process.peer->key();
    const LeaseEvent event = CauseOf(*process.peer, listed);
    if (event == LeaseEvent::kExeced) {
      registry_.EndExeced(key);
      continue;
    }
    registry_.NoteOverdueCause(key, event);
    if (options_.kill_hung && process.by >= options_.grace) Kill(key);
  }
}

LeaseEvent OverdueWatch::CauseOf(const Peer& peer,
                                 const absl::StatusOr<std::vector<pid_t>>& listed) const {
  if (options_.is_stopped(peer)) return LeaseEvent::kStopped;
  // A list that cannot be read does not prove that the process has no context.
  const bool has_context =
      !listed.ok() || std::find(listed->begin(), listed->end(), peer.pid()) != listed->end();
  if (has_context || options_.is_connected(peer.key())) return LeaseEvent::kHung;
  return LeaseEvent::kExeced;
}

void OverdueWatch::Kill(const ProcessKey& process) {
  std::shared_ptr<const Lease> killed;
  absl::Status outcome;
  // Under the registry's lock, where no keep-alive can come between the decision and the signal.
  // That is one system call, which does not wait.
  registry_.KillOverdue(process, options_.grace, [&](const std::shared_ptr<const Lease>& lease) {
    killed = lease;
    outcome = options_.kill(*lease->peer());
  });
  if (killed != nullptr && options_.on_kill) options_.on_kill(*killed, outcome);
}

}  // namespace tenure::server
