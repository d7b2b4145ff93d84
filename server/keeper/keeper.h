// `tenured --keeper`: what systemd does for the daemon, where systemd does not run it.
#ifndef SERVER_KEEPER_KEEPER_H_
#define SERVER_KEEPER_KEEPER_H_

#include <cstddef>

#include "absl/time/time.h"

namespace tenure::server {

// How far apart the keeper starts the daemon.
//
// A daemon that has run for a while is followed by the next at once. The first pause lies between
// the starts of daemons that served, however they ended; each that ended before it served doubles
// the pause, until one serves.
// Thread safety: thread-compatible.
class StartSpacing {
 public:
  StartSpacing(absl::Duration shortest, absl::Duration longest)
      : shortest_(shortest), longest_(longest), spacing_(shortest) {}

  // A daemon ended that had lived this long: how long until the next is started.
  absl::Duration AfterEnd(absl::Duration lived, bool served);

 private:
  const absl::Duration shortest_;
  const absl::Duration longest_;
  absl::Duration spacing_;
};

struct KeeperOptions {
  // How many file descriptors are kept at most.
  size_t max_fds = 4096;
  absl::Duration shortest_spacing = absl::Milliseconds(200);
  absl::Duration longest_spacing = absl::Seconds(5);
};

// Runs this program's command line without --keeper as a child, holds the file descriptors that the
// child stores, hands all of them to the next child, and starts that whenever one ends: until it
// ends with 0 or 64, or after SIGTERM or SIGINT, which are passed on to it. Returns the exit code
// of the last child, 128 + the signal if one ended it.
//
// It speaks the protocol of systemd's file descriptor store (sd_pid_notify_with_fds(3)) with its
// child alone. Its own supervisor, if it has one, hears the child's READY=1, STATUS= and
// WATCHDOG=1. The program is looked up by its path at every start, so that an upgrade is started by
// the next. A child whose keeper is killed goes on serving: its clients lose nothing, though the
// file descriptors live no longer than it does from then on.
//
// Neither the driver nor gRPC is touched and no thread is started, so there is little that could
// end it. Must be called before any thread runs.
int RunKeeper(const KeeperOptions& options, int argc, char** argv);

}  // namespace tenure::server

#endif  // SERVER_KEEPER_KEEPER_H_
