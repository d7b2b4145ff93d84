// Sees clients die, and gets their memory back.
#ifndef SERVER_BACKGROUND_REAPER_H_
#define SERVER_BACKGROUND_REAPER_H_

#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/unique_fd.h"
#include "server/background/overdue_watch.h"
#include "server/identity/peer.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

// Four threads, so that nothing slow delays what is quicker. One waits for the exit of any process
// with a session and ends its sessions at once. One asks the fence until everything quarantined is
// proven, and looks after silent clients. One clears regions: 64 GiB take 15 ms. One gives regions
// to the driver, where 64 GiB take 33 ms, and refills the reserve.
//
// Owns: the threads and an epoll of pidfds.
// Borrows: registry, fence, overdue watch, heap.
// Thread safety: Watch from any thread; Start and Stop from one.
// Source: pidfd_open(2): a pidfd becomes readable when the whole process has exited.
class Reaper {
 public:
  static absl::StatusOr<std::unique_ptr<Reaper>> Create(LeaseRegistry& registry, Fence& fence,
                                                        OverdueWatch& overdue, DeviceHeap& heap);
  ~Reaper();

  void Start();
  // Idempotent.
  void Stop();

  // Called after a session of this process was entered in the registry, or an exit in between would
  // go unseen. Idempotent.
  absl::Status Watch(const std::shared_ptr<const Peer>& peer);

 private:
  Reaper(LeaseRegistry& registry, Fence& fence, OverdueWatch& overdue, DeviceHeap& heap,
         UniqueFd epoll, UniqueFd wake);

  void WatchDeaths();
  // Stops watching this pidfd; null when it is not watched.
  std::shared_ptr<const Peer> Unwatch(int pidfd);
  void Prove();
  void Clear();
  void Supply();
  bool Stopping() const;
  // Whether there is something to prove, or no time left for it.
  bool HasToProve() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_ || news_; }

  LeaseRegistry& registry_;
  Fence& fence_;
  OverdueWatch& overdue_;
  DeviceHeap& heap_;
  const UniqueFd epoll_;
  const UniqueFd wake_;

  mutable absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  // Somebody has died since the fence was last asked.
  bool news_ ABSL_GUARDED_BY(mu_) = false;
  // By pidfd, as the events name them; and which processes these are.
  absl::flat_hash_map<int, std::shared_ptr<const Peer>> watched_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<ProcessKey> known_ ABSL_GUARDED_BY(mu_);
  std::thread deaths_;
  std::thread proofs_;
  std::thread clearing_;
  std::thread supply_;
};

}  // namespace tenure::server

#endif  // SERVER_BACKGROUND_REAPER_H_
