// Overdue sessions of the registry: how they are suspended, judged and ended.
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {

absl::Duration LeaseRegistry::WatchedNow() const { return watched_.At(clock_.Now()); }

bool LeaseRegistry::IsSuspended(SessionId id, const Session& session) {
  // By the deadline, and not only by what SuspendOverdue has found: it looks every 200 ms.
  if (session.lease->state() == LeaseState::kActive && WatchedNow() > session.deadline) {
    TENURE_CHECK(session.lease->On(LeaseEvent::kOverdue));
    deadlines_.Suspend({session.deadline, id}, session.lease->peer()->key());
  }
  return session.lease->state() == LeaseState::kSuspended;
}

absl::Duration LeaseRegistry::SuspendOverdue() {
  absl::Duration unwatched;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    unwatched = watched_.Look(clock_.Now());
  }
  for (bool more = true; more;) {
    cuda::NoDriverCallsLock lock(&mu_);
    size_t left = kMostUnderLock;
    while (left > 0 && !deadlines_.active().empty()) {
      const SessionId id = deadlines_.active().begin()->second;
      if (!IsSuspended(id, *sessions_.Find(id))) break;
      --left;
    }
    more = left == 0;
  }
  return unwatched;
}

std::vector<OverdueProcess> LeaseRegistry::OverdueProcesses(const ProcessKey& after,
                                                            size_t most) const {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::Duration now = WatchedNow();
  std::vector<OverdueProcess> overdue;
  const auto& suspended = deadlines_.suspended();
  for (auto it = suspended.upper_bound(after); it != suspended.end() && overdue.size() < most;
       ++it) {
    const auto& [deadline, id] = *it->second.sessions.begin();
    overdue.push_back(OverdueProcess{sessions_.Find(id)->lease->peer(), now - deadline});
  }
  return overdue;
}

void LeaseRegistry::NoteOverdueCause(const ProcessKey& process, LeaseEvent cause) {
  Deadlines::Deadline next;
  for (bool more = true; more;) {
    cuda::NoDriverCallsLock lock(&mu_);
    Deadlines::Overdue* const overdue = deadlines_.Find(process);
    if (overdue == nullptr || overdue->cause == cause) return;
    const absl::btree_set<Deadlines::Deadline>& sessions = overdue->sessions;
    auto it = sessions.lower_bound(next);
    for (size_t left = kMostUnderLock; left > 0 && it != sessions.end(); --left, ++it) {
      TENURE_CHECK(sessions_.Find(it->second)->lease->On(cause));
    }
    more = it != sessions.end();
    if (more) {
      next = *it;
    } else {
      overdue->cause = cause;
    }
  }
}

void LeaseRegistry::EndExeced(const ProcessKey& process) {
  for (bool more = true; more;) {
    std::optional<Ended> ended;
    {
      cuda::NoDriverCallsLock lock(&mu_);
      const Deadlines::Overdue* const overdue = deadlines_.Find(process);
      if (overdue == nullptr) return;
      const SessionId id = overdue->sessions.begin()->second;
      more = overdue->sessions.size() > 1;
      TENURE_CHECK(sessions_.Find(id)->lease->On(LeaseEvent::kExeced));
      ended.emplace(TakeSession(id));
      totals_.reclaimed_allocations += ended->session.allocations.size();
      ++totals_.sessions_reclaimed;
    }
    EndInSegments(ended->id);
    journal_.SessionEnded(ended->id).IgnoreError();
    // End is not called on the pool, which therefore returns the regions as perhaps still mapped:
    // to the driver.
    ReturnBlocks(*std::move(ended));
  }
}

void LeaseRegistry::KillOverdue(const ProcessKey& process, absl::Duration grace,
                                absl::FunctionRef<void(const std::shared_ptr<const Lease>&)> kill) {
  cuda::NoDriverCallsLock lock(&mu_);
  Deadlines::Overdue* const overdue = deadlines_.Find(process);
  if (overdue == nullptr || overdue->kill_tried) return;
  const auto& [deadline, id] = *overdue->sessions.begin();
  if (WatchedNow() - deadline < grace) return;
  overdue->kill_tried = true;
  kill(sessions_.Find(id)->lease);
}

}  // namespace tenure::server
