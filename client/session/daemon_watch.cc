#include "client/session/daemon_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "client/session/socket_probe.h"
#include "common/check.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // linux/socket.h since 6.5
#endif

namespace tenure {
namespace {

// A pidfd of the process that listens at the other end of a connection; empty if none can be
// opened.
UniqueFd PidfdOfPeer(int connection) {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0) {
    return UniqueFd(pidfd);
  }
  // An older kernel tells the pid only. If the daemon exits between the two calls, another process
  // may get its pid and would be watched. The session is then lost at the next keep-alive instead.
  ucred listener = {};
  length = sizeof listener;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0 ||
      listener.pid <= 0) {
    return UniqueFd();
  }
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, listener.pid, 0)));
}

}  // namespace

std::unique_ptr<DaemonWatch> DaemonWatch::Start(const std::string& socket,
                                                std::function<void()> on_exit) {
  // The watch makes a connection of its own, because gRPC does not expose its socket. It is closed
  // on return: the pidfd alone reports the exit.
  const UniqueFd connection(ConnectOnce(socket));
  if (!connection) return nullptr;
  UniqueFd pidfd = PidfdOfPeer(connection.get());
  if (!pidfd) return nullptr;
  UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  if (!stop) return nullptr;
  return std::unique_ptr<DaemonWatch>(
      new DaemonWatch(std::move(pidfd), std::move(stop), std::move(on_exit)));
}

DaemonWatch::DaemonWatch(UniqueFd pidfd, UniqueFd stop, std::function<void()> on_exit)
    : pidfd_(std::move(pidfd)),
      stop_(std::move(stop)),
      on_exit_(std::move(on_exit)),
      thread_([this] { Run(); }) {}

DaemonWatch::~DaemonWatch() {
  const uint64_t one = 1;
  TENURE_CHECK(write(stop_.get(), &one, sizeof one) == sizeof one);
  thread_.join();
}

void DaemonWatch::Run() {
  std::array<pollfd, 2> entries = {{{pidfd_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (poll(entries.data(), entries.size(), -1) < 0) TENURE_CHECK(errno == EINTR);
  // When both are readable, the destructor is waiting for this thread, and the exit is not
  // reported.
  if (entries[1].revents == 0) on_exit_();
}

}  // namespace tenure
