// What becomes of clients that have fallen silent.
#ifndef SERVER_BACKGROUND_OVERDUE_WATCH_H_
#define SERVER_BACKGROUND_OVERDUE_WATCH_H_

#include <functional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

#include "common/cuda/process_list.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

// Looks at the processes whose keep-alive is overdue and tells three kinds apart: stopped ones,
// hung ones, and those in which another program runs now. The first two keep all they have, however
// long it takes, unless the operator said that they are to be killed; then they die as others do,
// through the fence. The last hold a lease that nobody can use: their regions go back to the
// driver.
//
// That another program runs is inferred: the process lives, but has no connection to the daemon and
// no context on the device any more, both of which exec closes. Whoever has no context has nothing
// mapped, so even a wrong guess takes no memory that is in use.
//
// Borrows: registry, process list.
// Thread safety: thread-compatible.
class OverdueWatch {
 public:
  struct Options {
    bool kill_hung = false;
    // How long beyond the lease's end a client may be silent before it is killed.
    absl::Duration grace = absl::Minutes(1);
    std::function<bool(const ProcessKey&)> is_connected;
    // What is asked of a process itself; a simulation answers for processes that are none.
    std::function<bool(const Peer&)> is_stopped = &Peer::Stopped;
    std::function<absl::Status(const Peer&)> kill = &Peer::Kill;
    // Told about each attempt to kill a client, and how it ended.
    std::function<void(const Lease&, const absl::Status&)> on_kill = nullptr;
  };

  // `processes` may be null; then nobody is ever taken to run another program.
  OverdueWatch(LeaseRegistry& registry, cuda::ProcessList* processes, Options options);

  // Suspends whoever is overdue by now, and decides about all who are suspended.
  void Look();

 private:
  LeaseEvent Judge(const Lease& lease, const absl::StatusOr<std::vector<pid_t>>& listed) const;
  void KillOnce(const OverdueSession& session);

  LeaseRegistry& registry_;
  cuda::ProcessList* const processes_;
  const Options options_;
  // Whom it was tried to kill already.
  absl::flat_hash_set<SessionId> killed_;
};

}  // namespace tenure::server

#endif  // SERVER_BACKGROUND_OVERDUE_WATCH_H_
