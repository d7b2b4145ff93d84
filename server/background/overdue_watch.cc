#include "server/background/overdue_watch.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tenure::server {

OverdueWatch::OverdueWatch(LeaseRegistry& registry, cuda::ProcessList* processes, Options options)
    : registry_(registry), processes_(processes), options_(std::move(options)) {}

void OverdueWatch::Check() {
  const std::vector<OverdueSession> overdue = registry_.SuspendOverdue();
  if (overdue.empty()) {
    // No session is overdue, so those in killed_ have ended, or could not be killed and have sent a
    // keep-alive since. Such a session gets a new attempt the next time.
    killed_.clear();
    return;
  }
  // The list is read once for all sessions, and only if the decision about one depends on it: a
  // process with a connection is never taken to have exec'ed.
  absl::StatusOr<std::vector<pid_t>> listed = absl::UnavailableError("not read");
  const bool any_disconnected = std::any_of(
      overdue.begin(), overdue.end(),
      [this](const auto& session) { return !options_.is_connected(session.lease->peer()->key()); });
  if (any_disconnected && processes_ != nullptr) listed = processes_->ComputeProcesses();
  for (const OverdueSession& session : overdue) {
    // The reaper reclaims it.
    if (session.lease->peer()->Exited()) continue;
    const LeaseEvent event = CauseOf(*session.lease, listed);
    if (event == LeaseEvent::kExeced) {
      registry_.EndExeced(session.id);
      continue;
    }
    session.lease->On(event);
    if (options_.kill_hung && session.by >= options_.grace) KillOnce(session);
  }
}

LeaseEvent OverdueWatch::CauseOf(const Lease& lease,
                                 const absl::StatusOr<std::vector<pid_t>>& listed) const {
  const Peer& peer = *lease.peer();
  if (options_.is_stopped(peer)) return LeaseEvent::kStopped;
  // A list that cannot be read does not prove that the process has no context.
  const bool has_context =
      !listed.ok() || std::find(listed->begin(), listed->end(), peer.pid()) != listed->end();
  if (has_context || options_.is_connected(peer.key())) return LeaseEvent::kHung;
  return LeaseEvent::kExeced;
}

void OverdueWatch::KillOnce(const OverdueSession& session) {
  if (!killed_.insert(session.lease->peer()->key()).second) return;
  const absl::Status killed = options_.kill(*session.lease->peer());
  if (options_.on_kill) options_.on_kill(*session.lease, killed);
}

}  // namespace tenure::server
