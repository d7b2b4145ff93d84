#include "tests/support/kept_daemon.h"

#include <signal.h>

#include <chrono>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tenure::testing {
namespace {

TestDaemon::Options UnderItsKeeper(std::vector<std::string> flags, const std::string& memory) {
  flags.insert(flags.begin(), "--keeper");
  return TestDaemon::Options{.flags = std::move(flags), .memory = memory};
}

}  // namespace

KeptDaemon::KeptDaemon(std::vector<std::string> flags, const std::string& memory)
    : TestDaemon(UnderItsKeeper(std::move(flags), memory)) {}

pid_t KeptDaemon::daemon_pid() const {
  std::ifstream children(absl::StrCat("/proc/", keeper_pid(), "/task/", keeper_pid(), "/children"));
  pid_t child = 0;
  children >> child;
  return child;
}

bool KeptDaemon::KillAndAwaitNext() {
  const pid_t before = daemon_pid();
  if (before <= 0 || kill(before, SIGKILL) != 0) return false;
  const bool serves = Eventually([&] {
    const pid_t now = daemon_pid();
    return now > 0 && now != before &&
           NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                          std::chrono::milliseconds(100));
  });
  Reconnect();
  return serves;
}

}  // namespace tenure::testing
