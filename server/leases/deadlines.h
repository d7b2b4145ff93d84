// By when each session must send its next keep-alive, and which sessions have not.
#ifndef SERVER_LEASES_DEADLINES_H_
#define SERVER_LEASES_DEADLINES_H_

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/time/time.h"

#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/leases/lease.h"

namespace tenure::server {

// The sessions in order of their deadlines: the active ones together, the suspended ones with those
// of the same process. So the next overdue session and the next process to judge are found without
// a look at any other.
//
// Invariants: each session is active or suspended here, as its lease is. No process without a
//     suspended session has an entry.
// Thread safety: thread-compatible; the lease registry has it under its lock.
class Deadlines {
 public:
  // A session by its deadline, in watched time.
  using Deadline = std::pair<absl::Duration, SessionId>;
  // The suspended sessions of one process. The first of them is overdue for the longest time.
  struct Overdue {
    absl::btree_set<Deadline> sessions;
    std::optional<LeaseEvent> cause;  // that all their leases have; empty: not looked at yet
    bool kill_tried = false;
  };

  void Add(const Deadline& session) { active_.insert(session); }
  // REQUIRES: the session, which is of this process, is here.
  void Remove(const Deadline& session, const ProcessKey& process) {
    if (active_.erase(session) > 0) return;
    const auto of_process = suspended_.find(process);
    of_process->second.sessions.erase(session);
    if (of_process->second.sessions.empty()) suspended_.erase(of_process);
  }
  // REQUIRES: the session is active.
  void Suspend(const Deadline& session, const ProcessKey& process) {
    active_.erase(session);
    Overdue& overdue = suspended_[process];
    overdue.sessions.insert(session);
    overdue.cause.reset();
  }

  const absl::btree_set<Deadline>& active() const { return active_; }
  const absl::btree_map<ProcessKey, Overdue>& suspended() const { return suspended_; }
  // Null when no session of the process is suspended.
  Overdue* Find(const ProcessKey& process) {
    const auto found = suspended_.find(process);
    return found == suspended_.end() ? nullptr : &found->second;
  }

 private:
  absl::btree_set<Deadline> active_;
  absl::btree_map<ProcessKey, Overdue> suspended_;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_DEADLINES_H_
