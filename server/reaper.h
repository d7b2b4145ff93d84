// Sees clients die, and gets their memory back.
#ifndef SERVER_REAPER_H_
#define SERVER_REAPER_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "server/fence.h"
#include "server/lease_registry.h"
#include "server/peer.h"
#include "server/unique_fd.h"

namespace tenure::server {

// Two threads. One waits for the exit of any process with a session, ends its sessions at once, and
// asks the fence until everything quarantined is proven. The other clears regions, gives regions to
// the driver and refills the reserve, so that a 64 GiB scrub delays no death notice.
//
// Owns: the threads and an epoll of pidfds.
// Borrows: registry, fence, heap, clock.
// Thread safety: Watch from any thread; Start and Stop from one.
// Source: pidfd_open(2): a pidfd becomes readable when the whole process has exited.
class Reaper {
 public:
  // Told about each dead session whose regions were let go.
  using OnReclaimed = std::function<void(const QuarantineInfo&)>;

  static absl::StatusOr<std::unique_ptr<Reaper>> Create(LeaseRegistry& registry, Fence& fence,
                                                        DeviceHeap& heap, OnReclaimed on_reclaimed);
  ~Reaper();

  void Start();
  // Idempotent.
  void Stop();

  // Called after a session of this process was entered in the registry, or an exit in between would
  // go unseen. Idempotent.
  absl::Status Watch(const std::shared_ptr<const Peer>& peer);

 private:
  Reaper(LeaseRegistry& registry, Fence& fence, DeviceHeap& heap, OnReclaimed on_reclaimed,
         UniqueFd epoll, UniqueFd wake);

  void WatchDeaths();
  // Stops watching this pidfd; null when it is not watched.
  std::shared_ptr<const Peer> Unwatch(int pidfd);
  void Maintain();
  bool Stopping() const;

  LeaseRegistry& registry_;
  Fence& fence_;
  DeviceHeap& heap_;
  const OnReclaimed on_reclaimed_;
  const UniqueFd epoll_;
  const UniqueFd wake_;

  mutable absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  // By pidfd, as the events name them; and which processes these are.
  absl::flat_hash_map<int, std::shared_ptr<const Peer>> watched_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<ProcessKey> known_ ABSL_GUARDED_BY(mu_);
  std::thread deaths_;
  std::thread maintenance_;
};

}  // namespace tenure::server

#endif  // SERVER_REAPER_H_
