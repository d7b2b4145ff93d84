// The lease: the state of a session, from its opening until its last region is cleared.
#ifndef SERVER_LEASES_LEASE_H_
#define SERVER_LEASES_LEASE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"

namespace tenure::server {

enum class LeaseState : uint8_t {
  // Keep-alives arrive in time.
  kActive,
  // The keep-alive is overdue: the session gets nothing new, and keeps everything it has.
  kSuspended,
  // The process has exited. Calls that it started may still hold some of its blocks.
  kOrphaned,
  // All its blocks have come back. Its regions wait for the proof that no process uses them.
  kQuarantined,
  // The proof was given. Its regions wait to be cleared.
  kFenced,
  // Its regions are cleared and may be granted to any session. A final state.
  kScrubbed,
  // It held nothing, or the driver has everything that it held. A final state.
  kEnded,
};
inline constexpr size_t kLeaseStates = 7;

enum class LeaseEvent : uint8_t {
  // The client has sent a keep-alive.
  kKeepAlive,
  // The time of the lease has passed without a keep-alive.
  kOverdue,
  // Overdue, and the process is stopped, by SIGSTOP or by a debugger.
  kStopped,
  // Overdue, although the process runs.
  kHung,
  // Overdue, and the process has called execve(2): the program that runs in it now has neither a
  // connection to the daemon nor a context on the device.
  kExeced,
  // The client has closed its session.
  kClosed,
  // The daemon has closed the session because it ends itself.
  kDrained,
  // The pidfd is readable: the process has exited.
  kExited,
  // The last block of the dead session has come back, and its regions are in quarantine.
  kHeld,
  // The dead session had no region.
  kNothingHeld,
  // The process has exited, but the driver still lists its pid: a child that it forked keeps its
  // device files open.
  kForked,
  // The process has exited, and the driver does not list its pid.
  kProven,
  // The process has exited, and there is no process list: the regions go to the driver, which does
  // not reuse memory that a process still maps.
  kUnprovable,
  // The last region of the session was cleared.
  kCleared,
};
inline constexpr size_t kLeaseEvents = 14;

absl::string_view NameOf(LeaseState state);
absl::string_view NameOf(LeaseEvent event);

// The state that follows, from the table in lease.cc. nullopt when the event does not apply in this
// state.
std::optional<LeaseState> NextLeaseState(LeaseState state, LeaseEvent event);

// The state of one session's claim on its memory, and the times of its changes.
//
// Borrows: the clock.
// Thread safety: thread-safe. The registry moves it until kOrphaned, the quarantine from there on.
class Lease {
 public:
  Lease(std::shared_ptr<const Peer> peer, std::string name, const Clock& clock);

  const std::shared_ptr<const Peer>& peer() const { return peer_; }
  const std::string& name() const { return name_; }

  // Moves to the state that follows. Returns false, and changes nothing, when the event does not
  // apply in the current state.
  bool On(LeaseEvent event);

  LeaseState state() const;
  // The last event that applied: the reason for the state.
  LeaseEvent cause() const;
  // When a state was last entered. For a state that was never entered: when the session was opened.
  BootTime entered(LeaseState state) const;

 private:
  const std::shared_ptr<const Peer> peer_;
  const std::string name_;
  const Clock& clock_;

  // A leaf: no other lock is taken under it.
  mutable absl::Mutex mu_;
  LeaseState state_ ABSL_GUARDED_BY(mu_) = LeaseState::kActive;
  LeaseEvent cause_ ABSL_GUARDED_BY(mu_) = LeaseEvent::kKeepAlive;
  std::array<BootTime, kLeaseStates> entered_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_H_
