#include "server/keeper/daemon_process.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

#include "server/keeper/exit_code.h"

namespace tenure::server {
namespace {

constexpr char kThisProgram[] = "/proc/self/exe";

// Whether the child must not inherit this variable: the keeper sets it for the child, or it is
// addressed to the keeper itself.
bool IsSetByKeeper(absl::string_view variable) {
  for (const char* name : {"NOTIFY_SOCKET=", "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=",
                           "FDSTORE=", "WATCHDOG_PID=", "TENURE_KEEPER="}) {
    if (absl::StartsWith(variable, name)) return true;
  }
  return false;
}

// The environment of the child that calls this.
std::vector<std::string> ChildEnvironment(const KeptFds& kept, const std::string& notify_path) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsSetByKeeper(*variable)) variables.emplace_back(*variable);
  }
  // These two name the process that they are meant for, which is the child after its fork.
  const pid_t self = getpid();
  if (std::getenv("WATCHDOG_PID") != nullptr) {
    variables.push_back(absl::StrCat("WATCHDOG_PID=", self));
  }
  variables.push_back(absl::StrCat("NOTIFY_SOCKET=", notify_path));
  variables.push_back(absl::StrCat("FDSTORE=", kept.max()));
  variables.push_back("TENURE_KEEPER=1");
  if (kept.size() > 0) {
    variables.push_back(absl::StrCat("LISTEN_PID=", self));
    variables.push_back(absl::StrCat("LISTEN_FDS=", kept.size()));
    variables.push_back(absl::StrCat("LISTEN_FDNAMES=", kept.Names()));
  }
  return variables;
}

// As execve(2) wants its lists.
std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

DaemonProcess::DaemonProcess(std::vector<std::string> command, const sigset_t& mask)
    : command_(std::move(command)), mask_(mask) {
  // Read once: after an upgrade the link names a file that was deleted.
  std::error_code error;
  program_ = std::filesystem::read_symlink(kThisProgram, error).string();
}

absl::Status DaemonProcess::Start(const KeptFds& kept, const std::string& notify_path) {
  const pid_t pid = fork();
  if (pid == 0) Exec(kept, notify_path);
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot start tenured");
  pidfd_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd_) {
    const absl::Status failed = absl::ErrnoToStatus(errno, "cannot start tenured");
    // Without a pidfd nothing would report its end, so it must not live.
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return failed;
  }
  pid_ = pid;
  return absl::OkStatus();
}

// Between fork and exec a process with threads may only call functions that are safe in a signal
// handler, because another thread may have held any lock at the fork. The keeper has no threads, so
// the child may allocate memory and write to the log.
void DaemonProcess::Exec(const KeptFds& kept, const std::string& notify_path) {
  std::vector<std::string> environment = ChildEnvironment(kept, notify_path);
  const std::vector<char*> variables = Pointers(environment);
  const std::vector<char*> words = Pointers(command_);
  if (kept.PlaceForExec()) {
    // The mask last: a signal that arrived meanwhile then ends the child, as it would end a daemon
    // that was started by hand.
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
    execve(program_.c_str(), words.data(), variables.data());
    // In the middle of an upgrade there is no file of that name. The keeper's own program still
    // exists, because a process runs it.
    execve(kThisProgram, words.data(), variables.data());
  }
  spdlog::error("{}", std::string(absl::ErrnoToStatus(errno, "cannot run " + program_).message()));
  // _exit, and not exit: the destructors belong to the keeper, whose epoll instance is shared.
  _exit(kExitUnavailable);
}

void DaemonProcess::Signal(int signal) const {
  // By its pid: until TakeEnd has waited for it, no other process can have it.
  kill(pid_, signal);
}

std::optional<ProcessEnd> DaemonProcess::TakeEnd() {
  siginfo_t info = {};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0) {
    return std::nullopt;
  }
  pidfd_.Reset();
  return ProcessEnd{std::exchange(pid_, 0), info.si_code == CLD_EXITED, info.si_status};
}

}  // namespace tenure::server
