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

// The process that listens at the other end of a connection; -1 when it cannot be held.
int PidfdOfPeer(int connection) {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0) return pidfd;
  ucred listener = {};
  length = sizeof listener;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0 ||
      listener.pid <= 0) {
    return -1;
  }
  return static_cast<int>(syscall(SYS_pidfd_open, listener.pid, 0));
}

}  // namespace

std::unique_ptr<DaemonWatch> DaemonWatch::Start(const std::string& socket,
                                                std::function<void()> on_end) {
  const int connection = ConnectOnce(socket);
  if (connection < 0) return nullptr;
  const int pidfd = PidfdOfPeer(connection);
  close(connection);
  if (pidfd < 0) return nullptr;
  const int wake = eventfd(0, EFD_CLOEXEC);
  if (wake < 0) {
    close(pidfd);
    return nullptr;
  }
  return std::unique_ptr<DaemonWatch>(new DaemonWatch(pidfd, wake, std::move(on_end)));
}

DaemonWatch::DaemonWatch(int pidfd, int wake, std::function<void()> on_end)
    : pidfd_(pidfd), wake_(wake), on_end_(std::move(on_end)), thread_([this] { Run(); }) {}

DaemonWatch::~DaemonWatch() {
  const uint64_t one = 1;
  TENURE_CHECK(write(wake_, &one, sizeof one) == sizeof one);
  thread_.join();
  close(wake_);
  close(pidfd_);
}

void DaemonWatch::Run() {
  std::array<pollfd, 2> entries = {{{pidfd_, POLLIN, 0}, {wake_, POLLIN, 0}}};
  while (poll(entries.data(), entries.size(), -1) < 0) TENURE_CHECK(errno == EINTR);
  if (entries[1].revents == 0) on_end_();
}

}  // namespace tenure
