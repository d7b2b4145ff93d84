#include "tests/support/kept_daemon.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/unique_fd.h"

namespace tenure::testing {
namespace {

TestDaemon::Options UnderItsKeeper(TestDaemon::Options options) {
  options.flags.insert(options.flags.begin(), "--keeper");
  return options;
}

// Whether a process listens on this socket.
bool Listens(const std::string& socket_path) {
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  TENURE_CHECK(socket_path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

KeptDaemon::KeptDaemon(std::vector<std::string> flags, const std::string& memory)
    : KeptDaemon(Options{.flags = std::move(flags), .memory = memory}) {}

KeptDaemon::KeptDaemon(Options options) : TestDaemon(UnderItsKeeper(std::move(options))) {}

pid_t KeptDaemon::daemon_pid() const {
  std::ifstream children(absl::StrCat("/proc/", keeper_pid(), "/task/", keeper_pid(), "/children"));
  pid_t child = 0;
  children >> child;
  return child;
}

bool KeptDaemon::AwaitNext(pid_t before) {
  const bool serves = Eventually([&] {
    const pid_t now = daemon_pid();
    // A new channel each time: one that was refused waits a second before it tries again.
    return now > 0 && now != before && Listens(socket()) &&
           NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                          std::chrono::milliseconds(500)) &&
           daemon_pid() == now;
  });
  Reconnect();
  return serves;
}

bool KeptDaemon::KillAndAwaitNext() {
  const pid_t before = daemon_pid();
  if (before <= 0 || kill(before, SIGKILL) != 0) return false;
  return AwaitNext(before);
}

std::string JournalOf(const TestDaemon& daemon) { return daemon.folder() + "/journal"; }

}  // namespace tenure::testing
