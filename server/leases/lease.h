// A session's claim on its memory, from its first grant until the last byte of it is cleared.
#ifndef SERVER_LEASES_LEASE_H_
#define SERVER_LEASES_LEASE_H_

#include <array>
#include <atomic>
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
  kActive,       // keep-alives come in time
  kSuspended,    // overdue: nothing new is granted, nothing is taken
  kOrphaned,     // the process has exited; calls under way may still hold blocks
  kQuarantined,  // its regions wait for the proof that the process is silent
  kFenced,       // proven; its regions wait to be cleared
  kScrubbed,     // cleared: the regions may serve anybody. The end
  kEnded,        // nothing was held, or the driver has it all. The end
};
inline constexpr size_t kLeaseStates = 7;

enum class LeaseEvent : uint8_t {
  kKeepAlive,  // the client speaks
  kOverdue,    // no keep-alive within the lease's time
  kStopped,    // overdue, and the process is stopped: SIGSTOP, a debugger
  kHung,       // overdue, though the process runs
  kExeced,     // overdue, and another program runs in the process: it has neither a connection nor
               // a context any more
  kClosed,     // the client ends its session
  kDrained,    // the daemon does
  kExited,     // the pidfd is readable: the process is dead
  kHeld,       // its regions have come to the fence
  kNothingHeld,  // it had none
  kForked,       // the driver still lists the dead process: a child keeps its device files open
  kProven,       // dead, and the driver does not list it
  kUnprovable,   // dead, and there is no list: the driver isolates what it takes back
  kCleared,      // the last of its regions is
};
inline constexpr size_t kLeaseEvents = 14;

absl::string_view NameOf(LeaseState state);
absl::string_view NameOf(LeaseEvent event);

// The lease machine. nullopt: the event means nothing in this state.
std::optional<LeaseState> NextLeaseState(LeaseState state, LeaseEvent event);

// One session's way through the machine.
//
// Borrows: the clock.
// Thread safety: thread-safe. The registry moves it up to kOrphaned, the fence up to kFenced, the
// device heap to the end.
class Lease {
 public:
  Lease(std::shared_ptr<const Peer> peer, std::string name, const Clock& clock);

  const std::shared_ptr<const Peer>& peer() const { return peer_; }
  const std::string& name() const { return name_; }

  // Moves along the table. False, and nothing changes: the event means nothing in this state.
  bool On(LeaseEvent event);

  LeaseState state() const;
  // The last event that was taken: why the state is what it is.
  LeaseEvent cause() const;
  // When a state was last entered; the time of the opening for one that never was.
  BootTime entered(LeaseState state) const;

  // Whether the journal knows the session. Set once, before its first record but one.
  bool journaled() const { return journaled_.load(std::memory_order_relaxed); }
  void set_journaled() { journaled_.store(true, std::memory_order_relaxed); }

  // A proven lease's regions are cleared one by one: how many there are, and that one is done.
  void ExpectClears(uint64_t regions);
  void NoteCleared();

 private:
  const std::shared_ptr<const Peer> peer_;
  const std::string name_;
  const Clock& clock_;

  std::atomic<bool> journaled_ = false;
  mutable absl::Mutex mu_;
  LeaseState state_ ABSL_GUARDED_BY(mu_) = LeaseState::kActive;
  LeaseEvent cause_ ABSL_GUARDED_BY(mu_) = LeaseEvent::kKeepAlive;
  std::array<BootTime, kLeaseStates> entered_ ABSL_GUARDED_BY(mu_);
  uint64_t to_clear_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_H_
