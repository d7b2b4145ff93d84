#include "tests/support/lease_client_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <utility>

#include <spawn.h>

#include "common/check.h"
#include "tests/support/test_daemon.h"

extern char** environ;

namespace tenure::testing {

LeaseClientProcess::LeaseClientProcess(const std::vector<std::string>& words,
                                       const std::string& name) {
  const std::string program = ProgramFolder() + "/" + name;
  std::vector<char*> arguments = {const_cast<char*>(program.c_str())};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::array<int, 2> ends = {};
  TENURE_CHECK(pipe2(ends.data(), O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  TENURE_CHECK(posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments.data(), environ) ==
               0);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  output_ = ends[0];
}

LeaseClientProcess::LeaseClientProcess(LeaseClientProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), output_(std::exchange(other.output_, -1)) {}

LeaseClientProcess& LeaseClientProcess::operator=(LeaseClientProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  return *this;
}

LeaseClientProcess::~LeaseClientProcess() {
  if (pid_ > 0) Kill();
  if (output_ >= 0) close(output_);
}

std::string LeaseClientProcess::ReadLine() {
  std::string line;
  while (true) {
    pollfd entry = {output_, POLLIN, 0};
    if (poll(&entry, 1, 20'000) != 1) return "";
    char byte = 0;
    if (read(output_, &byte, 1) != 1) return "";
    if (byte == '\n') return line;
    line += byte;
  }
}

int LeaseClientProcess::Kill() {
  kill(pid_, SIGKILL);
  return WaitForEnd();
}

std::optional<int> LeaseClientProcess::EndedWith() const {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid != pid_) {
    return std::nullopt;
  }
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int LeaseClientProcess::WaitForEnd() {
  const int code = WaitForExit(pid_);
  pid_ = -1;
  return code;
}

}  // namespace tenure::testing
