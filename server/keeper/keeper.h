// `tenured --keeper`: a parent process that holds the daemon's descriptors and restarts the daemon.
#ifndef SERVER_KEEPER_KEEPER_H_
#define SERVER_KEEPER_KEEPER_H_

#include <cstddef>

#include "absl/time/time.h"

namespace tenure::server {

struct KeeperOptions {
  // The most file descriptors that are kept.
  size_t max_fds = 4096;
  // See RestartBackoff.
  absl::Duration shortest_spacing = absl::Milliseconds(200);
  absl::Duration longest_spacing = absl::Seconds(5);
};

// Does the work of systemd on hosts where systemd does not run the daemon. It runs this program's
// command line without --keeper as a child. It holds the file descriptors that the child
// stores, and passes all of them to the next child.
//
// Whenever a child ends, the next is started, except in two cases: the child ended with 0 or 64, or
// the keeper got SIGTERM, SIGINT or SIGQUIT, which it passes to the child. Then this returns the
// exit code of the last child, or 128 plus the number of the signal that ended it.
//
// The keeper speaks the protocol of systemd's file descriptor store (sd_pid_notify_with_fds(3)),
// and only with its child. SIGHUP is passed to the child, and every other signal that would end the
// keeper is ignored with a line in the log. If the keeper itself has a supervisor, it passes the
// child's READY=1, STATUS= and WATCHDOG=1 to that one.
//
// If the keeper is killed, its child keeps serving and its clients lose nothing. From then on the
// descriptors end with the child.
//
// The keeper uses neither the driver nor gRPC and starts no thread, so that little can end it.
// REQUIRES: no thread runs.
int RunKeeper(const KeeperOptions& options, int argc, char** argv);

}  // namespace tenure::server

#endif  // SERVER_KEEPER_KEEPER_H_
