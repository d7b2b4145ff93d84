#include "server/leases/lease.h"

#include <utility>

namespace tenure::server {
namespace {

using S = LeaseState;
using E = LeaseEvent;

struct Row {
  LeaseState from;
  LeaseEvent event;
  LeaseState to;
};

// An event that has no row for a state does not apply in that state. So no keep-alive makes a dead
// session active again, time alone takes no memory from a client, and a region leaves quarantine
// only with proof or to the driver.
constexpr Row kTable[] = {
    {S::kActive, E::kKeepAlive, S::kActive},
    {S::kActive, E::kOverdue, S::kSuspended},
    {S::kActive, E::kClosed, S::kEnded},
    {S::kActive, E::kDrained, S::kEnded},
    {S::kActive, E::kExited, S::kOrphaned},

    {S::kSuspended, E::kKeepAlive, S::kActive},
    {S::kSuspended, E::kStopped, S::kSuspended},
    {S::kSuspended, E::kHung, S::kSuspended},
    {S::kSuspended, E::kExeced, S::kEnded},
    {S::kSuspended, E::kClosed, S::kEnded},
    {S::kSuspended, E::kDrained, S::kEnded},
    {S::kSuspended, E::kExited, S::kOrphaned},

    {S::kOrphaned, E::kHeld, S::kQuarantined},
    {S::kOrphaned, E::kNothingHeld, S::kEnded},

    {S::kQuarantined, E::kForked, S::kQuarantined},
    {S::kQuarantined, E::kProven, S::kFenced},
    {S::kQuarantined, E::kUnprovable, S::kEnded},

    {S::kFenced, E::kCleared, S::kScrubbed},
};

}  // namespace

absl::string_view NameOf(LeaseState state) {
  switch (state) {
    case S::kActive:
      return "ACTIVE";
    case S::kSuspended:
      return "SUSPENDED";
    case S::kOrphaned:
      return "ORPHANED";
    case S::kQuarantined:
      return "QUARANTINED";
    case S::kFenced:
      return "FENCED";
    case S::kScrubbed:
      return "SCRUBBED";
    case S::kEnded:
      return "ENDED";
  }
  return "";
}

absl::string_view NameOf(LeaseEvent event) {
  switch (event) {
    case E::kKeepAlive:
      return "keep-alive";
    case E::kOverdue:
      return "overdue";
    case E::kStopped:
      return "stopped";
    case E::kHung:
      return "hung";
    case E::kExeced:
      return "exec'ed";
    case E::kClosed:
      return "closed";
    case E::kDrained:
      return "drained";
    case E::kExited:
      return "exited";
    case E::kHeld:
      return "held";
    case E::kNothingHeld:
      return "nothing held";
    case E::kForked:
      return "forked";
    case E::kProven:
      return "proven";
    case E::kUnprovable:
      return "unprovable";
    case E::kCleared:
      return "cleared";
  }
  return "";
}

std::optional<LeaseState> NextLeaseState(LeaseState state, LeaseEvent event) {
  // A search: the table is short, and a reader can check it row by row against the picture.
  for (const Row& row : kTable) {
    if (row.from == state && row.event == event) return row.to;
  }
  return std::nullopt;
}

Lease::Lease(std::shared_ptr<const Peer> peer, std::string name, const Clock& clock)
    : peer_(std::move(peer)), name_(std::move(name)), clock_(clock) {
  // All states at once, so that a time is there also for a state that is never entered.
  absl::MutexLock lock(&mu_);
  entered_.fill(clock_.Now());
}

bool Lease::On(LeaseEvent event) {
  absl::MutexLock lock(&mu_);
  const std::optional<LeaseState> next = NextLeaseState(state_, event);
  if (!next) return false;
  cause_ = event;
  // An event that confirms the state (a keep-alive, one more look at a stopped client) changes the
  // cause only: `entered` answers how long the state has lasted.
  if (*next != state_) entered_[static_cast<size_t>(*next)] = clock_.Now();
  state_ = *next;
  return true;
}

LeaseState Lease::state() const {
  absl::MutexLock lock(&mu_);
  return state_;
}

LeaseEvent Lease::cause() const {
  absl::MutexLock lock(&mu_);
  return cause_;
}

BootTime Lease::entered(LeaseState state) const {
  absl::MutexLock lock(&mu_);
  return entered_[static_cast<size_t>(state)];
}

}  // namespace tenure::server
