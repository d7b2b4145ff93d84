// Reports the exit of the daemon's process.
#ifndef CLIENT_SESSION_DAEMON_WATCH_H_
#define CLIENT_SESSION_DAEMON_WATCH_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "common/unique_fd.h"

namespace tenure {

// Waits on a thread of its own for the exit of the process that listens at a socket. A broken
// connection is no proof of an exit: the daemon may be alive, and gRPC connects again.
//
// Owns: a pidfd of the daemon, and the thread.
// Thread safety: thread-confined.
// Source: unix(7) SO_PEERCRED and SO_PEERPIDFD (kernel 6.5), pidfd_open(2).
class DaemonWatch {
 public:
  // `on_exit` is called at most once, on the watch's thread. Returns null where no pidfd can be
  // opened: the daemon runs in a PID namespace that this process does not see, or has exited.
  static std::unique_ptr<DaemonWatch> Start(const std::string& socket,
                                            std::function<void()> on_exit);
  // If `on_exit` is being called, waits for its end.
  // REQUIRES: not called from `on_exit`.
  ~DaemonWatch();
  DaemonWatch(const DaemonWatch&) = delete;
  DaemonWatch& operator=(const DaemonWatch&) = delete;

 private:
  DaemonWatch(UniqueFd pidfd, UniqueFd stop, std::function<void()> on_exit);

  void Run();

  const UniqueFd pidfd_;
  const UniqueFd stop_;  // an eventfd: readable when the thread has to end
  const std::function<void()> on_exit_;
  std::thread thread_;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_DAEMON_WATCH_H_
