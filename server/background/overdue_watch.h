// Decides about clients whose keep-alive is overdue.
#ifndef SERVER_BACKGROUND_OVERDUE_WATCH_H_
#define SERVER_BACKGROUND_OVERDUE_WATCH_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "common/cuda/process_list.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

// Suspends the sessions whose keep-alive is overdue, and finds out why the client sends none. A
// stopped or a hung process keeps everything, however long it takes. If the operator chose
// --hung-client=kill, it is killed after a grace time, and its memory returns through the fence as
// that of any dead process. A process in which another program runs (exec) holds a lease that no
// program can use: its session ends, and its regions go back to the driver.
//
// Only time in which Check was called at least every LeaseRegistry::kLongestLook counts, and each
// decision is taken under the registry's lock. So a pause of the daemon or of the host harms no
// client. One Check looks at kMostAtOnce processes; the next one continues behind them.
//
// An exec is inferred: the process lives, but has neither a connection to the daemon nor a context
// on the device, both of which exec closes. A process without a context has nothing mapped, so a
// wrong guess takes no memory that is in use.
//
// Borrows: registry, process list.
// Thread safety: thread-compatible.
class OverdueWatch {
 public:
  // Looking at a process takes some 10 us, so 200 ms suffice for many more of them.
  static constexpr size_t kMostAtOnce = 256;
  static constexpr absl::Duration kWorthALine = absl::Seconds(5);

  struct Options {
    bool kill_hung = false;
    // A client that sends no keep-alive for this long after the last one was due is killed.
    absl::Duration grace = absl::Minutes(1);
    std::function<bool(const ProcessKey&)> is_connected;
    // How a process is inspected and killed. A simulation has answers of its own, because its
    // processes do not exist.
    std::function<bool(const Peer&)> is_stopped = &Peer::Stopped;
    std::function<absl::Status(const Peer&)> kill = &Peer::Kill;
    // Called after each attempt to kill a client, with its outcome.
    std::function<void(const Lease&, const absl::Status&)> on_kill = nullptr;
    // Called after a time of kWorthALine at least in which nobody looked.
    std::function<void(absl::Duration)> on_pause = nullptr;
  };

  // `processes` may be null: then no exec can be inferred.
  OverdueWatch(LeaseRegistry& registry, cuda::ProcessList* processes, Options options);

  // Suspends the sessions that are overdue by now, and decides about processes that have suspended
  // ones.
  void Check();

 private:
  // Why this process sends no keep-alive.
  LeaseEvent CauseOf(const Peer& peer, const absl::StatusOr<std::vector<pid_t>>& listed) const;
  void Kill(const ProcessKey& process);

  LeaseRegistry& registry_;
  cuda::ProcessList* const processes_;
  const Options options_;
  ProcessKey last_;  // that Check looked at
};

}  // namespace tenure::server

#endif  // SERVER_BACKGROUND_OVERDUE_WATCH_H_
