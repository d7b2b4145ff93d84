// The daemon's life, seen from a client.
#ifndef CLIENT_SESSION_DAEMON_WATCH_H_
#define CLIENT_SESSION_DAEMON_WATCH_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

namespace tenure {

// Waits for the end of the process that listens at a socket, and tells at once: a lost connection
// may come back, a dead daemon does not, and its leases are over with it.
//
// Owns: a pidfd of the daemon, and the thread.
// Thread safety: thread-confined.
// Source: unix(7) SO_PEERCRED and SO_PEERPIDFD (kernel 6.5), pidfd_open(2).
class DaemonWatch {
 public:
  // `on_end` is called at most once, on a thread of the watch's. Null where the process cannot be
  // held: it lives in a PID namespace that this one does not contain, or is gone already.
  static std::unique_ptr<DaemonWatch> Start(const std::string& socket,
                                            std::function<void()> on_end);
  // Waits for a call of `on_end` under way.
  ~DaemonWatch();
  DaemonWatch(const DaemonWatch&) = delete;
  DaemonWatch& operator=(const DaemonWatch&) = delete;

 private:
  DaemonWatch(int pidfd, int wake, std::function<void()> on_end);

  void Run();

  const int pidfd_;
  const int wake_;
  const std::function<void()> on_end_;
  std::thread thread_;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_DAEMON_WATCH_H_
