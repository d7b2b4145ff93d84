// Sees clients exit, and reclaims their memory.
#ifndef SERVER_BACKGROUND_REAPER_H_
#define SERVER_BACKGROUND_REAPER_H_

#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/timed_cond_var.h"
#include "common/unique_fd.h"
#include "server/background/overdue_watch.h"
#include "server/identity/peer.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

// Turns the exit of a process into the return of its memory, on two threads. The exit thread waits
// for the exit of every watched process and reclaims its sessions at once, so that their regions
// are in quarantine within a millisecond. The proof thread polls the fence as long as anything is
// in quarantine, which reads the driver's process list and can take milliseconds; between polls it
// runs the overdue watch.
//
// Owns: the two threads, and an epoll instance with the pidfds of the watched processes.
// Borrows: registry, fence, overdue watch.
// Thread safety: Watch from any thread; Start, Stop and the destructor on one. The fence's Poll and
//     the overdue watch are called on the proof thread only.
// Source: pidfd_open(2): a pidfd becomes readable when the whole process has exited.
class Reaper {
 public:
  static absl::StatusOr<std::unique_ptr<Reaper>> Create(LeaseRegistry& registry, Fence& fence,
                                                        OverdueWatch& overdue);
  ~Reaper();

  void Start();
  // Returns when both threads have ended. Idempotent.
  void Stop();

  // Reclaims the sessions of this process when it exits, or now if it has exited already.
  // Idempotent; also before Start.
  // REQUIRES: a session of the process is in the registry. A process that exits before its session
  // is entered would have nothing to reclaim at that time, and would not be looked at again.
  absl::Status Watch(const std::shared_ptr<const Peer>& peer);

 private:
  Reaper(LeaseRegistry& registry, Fence& fence, OverdueWatch& overdue, UniqueFd epoll,
         UniqueFd wake);

  void ReclaimExited();
  // Stops watching this pidfd. Null: it is not watched.
  std::shared_ptr<const Peer> Unwatch(int pidfd);
  void ProveExits();
  bool Stopping() const;
  bool ShouldPollNow() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_ || exit_seen_; }

  LeaseRegistry& registry_;
  Fence& fence_;
  OverdueWatch& overdue_;
  const UniqueFd epoll_;
  const UniqueFd wake_;  // an eventfd in the same epoll: ends the exit thread's wait

  // Taken by Watch on gRPC's threads; no driver call is made while it is held, and neither the
  // registry nor the fence is called.
  mutable absl::Mutex mu_;
  TimedCondVar poll_now_;  // signalled when ShouldPollNow() has become true
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  // A process has exited since the fence was last polled.
  bool exit_seen_ ABSL_GUARDED_BY(mu_) = false;
  // The watched processes by pidfd, the number that epoll reports, and by their keys. A peer in
  // here keeps its pidfd open, so that the number cannot mean another process.
  absl::flat_hash_map<int, std::shared_ptr<const Peer>> watched_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<ProcessKey> known_ ABSL_GUARDED_BY(mu_);
  std::thread exit_thread_;
  std::thread proof_thread_;
};

}  // namespace tenure::server

#endif  // SERVER_BACKGROUND_REAPER_H_
