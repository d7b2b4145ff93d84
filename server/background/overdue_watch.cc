#include "server/background/overdue_watch.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace tenure::server {

OverdueWatch::OverdueWatch(LeaseRegistry& registry, cuda::ProcessList* processes, Options options)
    : registry_(registry), processes_(processes), options_(std::move(options)) {}

void OverdueWatch::Look() {
  const std::vector<OverdueSession> overdue = registry_.SuspendOverdue();
  if (overdue.empty()) {
    killed_.clear();
    return;
  }
  // Read once for all, and only if somebody's fate depends on it.
  absl::StatusOr<std::vector<pid_t>> listed = absl::UnavailableError("not read");
  const bool any_left = std::any_of(overdue.begin(), overdue.end(), [this](const auto& session) {
    return !options_.is_connected(session.lease->peer()->key());
  });
  if (any_left && processes_ != nullptr) listed = processes_->ComputeProcesses();
  for (const OverdueSession& session : overdue) {
    // The reaper has it, or will.
    if (session.lease->peer()->Exited()) continue;
    const LeaseEvent event = Judge(*session.lease, listed);
    if (event == LeaseEvent::kExeced) {
      registry_.EndExeced(session.id);
      continue;
    }
    session.lease->On(event);
    if (options_.kill_hung && session.by >= options_.grace) KillOnce(session);
  }
}

LeaseEvent OverdueWatch::Judge(const Lease& lease,
                               const absl::StatusOr<std::vector<pid_t>>& listed) const {
  const Peer& peer = *lease.peer();
  if (options_.is_stopped(peer)) return LeaseEvent::kStopped;
  const bool has_context =
      !listed.ok() || std::find(listed->begin(), listed->end(), peer.pid()) != listed->end();
  if (has_context || options_.is_connected(peer.key())) return LeaseEvent::kHung;
  return LeaseEvent::kExeced;
}

void OverdueWatch::KillOnce(const OverdueSession& session) {
  if (!killed_.insert(session.id).second) return;
  const absl::Status killed = options_.kill(*session.lease->peer());
  if (options_.on_kill) options_.on_kill(*session.lease, killed);
}

}  // namespace tenure::server
