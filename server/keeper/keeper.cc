#include "server/keeper/keeper.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "common/unique_fd.h"
#include "server/keeper/exit_code.h"
#include "server/keeper/kept_fds.h"
#include "server/keeper/notify_socket.h"

namespace tenure::server {
namespace {

// What this process opens beside what it keeps, and what one message may bring.
constexpr size_t kOwnFds = 512;
constexpr char kThisProgram[] = "/proc/self/exe";

// As many open files as the kernel allows; how many of them can be kept: each has a place of its
// own in the child as well.
size_t RaiseFileLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur < kOwnFds ? 0 : (static_cast<size_t>(limit.rlim_cur) - kOwnFds) / 2;
}

// Environment variables that the keeper sets for its child, or that speak of the keeper itself.
bool IsOurs(absl::string_view variable) {
  for (const char* name : {"NOTIFY_SOCKET=", "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=",
                           "FDSTORE=", "WATCHDOG_PID="}) {
    if (absl::StartsWith(variable, name)) return true;
  }
  return false;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

class Keeper {
 public:
  // Signals must be blocked; `mask` is what they were before.
  Keeper(const KeeperOptions& options, std::vector<std::string> command, const sigset_t& mask,
         std::unique_ptr<NotifySocket> notify, UniqueFd epoll, UniqueFd signals)
      : command_(std::move(command)),
        mask_(mask),
        notify_(std::move(notify)),
        epoll_(std::move(epoll)),
        signals_(std::move(signals)),
        kept_(std::min(options.max_fds, RaiseFileLimit()), epoll_.get()),
        spacing_(options.shortest_spacing, options.longest_spacing) {
    std::error_code error;
    program_ = std::filesystem::read_symlink(kThisProgram, error).string();
    if (kept_.max() < options.max_fds) {
      spdlog::warn("{} file descriptors can be kept, not {}: the limit of open files is too low",
                   kept_.max(), options.max_fds);
    }
    Watch(signals_.get());
    Watch(notify_->fd());
  }

  int Run();

 private:
  void Watch(int fd) const;
  // In milliseconds, as epoll_wait wants it; -1: for as long as it takes.
  int UntilNextStart() const;
  void Start();
  [[noreturn]] void BecomeChild();
  std::vector<std::string> ChildEnvironment() const;
  void TakeSignals();
  void TakeMessages();
  void Take(NotifyMessage message);
  void Keep(NotifyMessage message);
  void TakeEnd();

  std::vector<std::string> command_;
  const sigset_t mask_;
  const std::unique_ptr<NotifySocket> notify_;
  const UniqueFd epoll_;
  const UniqueFd signals_;
  KeptFds kept_;
  StartSpacing spacing_;
  std::string program_;

  // The child: none between the end of one and the start of the next.
  pid_t child_ = 0;
  UniqueFd child_end_;
  absl::Time started_;
  bool served_ = false;

  absl::Time next_start_ = absl::InfinitePast();
  bool stopping_ = false;
  std::optional<int> exit_code_;
};

int Keeper::Run() {
  while (!exit_code_) {
    if (child_ == 0 && absl::Now() >= next_start_) Start();
    std::array<epoll_event, 16> events;
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), UntilNextStart());
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(events[static_cast<size_t>(i)].data.u64);
      if (fd == signals_.get()) {
        TakeSignals();
      } else if (fd == notify_->fd()) {
        TakeMessages();
      } else if (fd == child_end_.get()) {
        TakeEnd();
      } else {
        kept_.HungUp(fd);
      }
    }
  }
  return *exit_code_;
}

void Keeper::Watch(int fd) const {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<uint64_t>(fd);
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

int Keeper::UntilNextStart() const {
  if (child_ != 0) return -1;
  const absl::Duration wait = std::max(absl::ZeroDuration(), next_start_ - absl::Now());
  return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1))));
}

void Keeper::Start() {
  started_ = absl::Now();
  served_ = false;
  const pid_t pid = fork();
  if (pid == 0) BecomeChild();
  if (pid > 0) child_end_.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (pid > 0 && child_end_) {
    child_ = pid;
    Watch(child_end_.get());
    return;
  }
  spdlog::error("{}", std::string(absl::ErrnoToStatus(errno, "cannot start tenured").message()));
  if (pid > 0) {
    // Nobody would hear of its end.
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  next_start_ = absl::Now() + spacing_.AfterEnd(absl::ZeroDuration(), /*served=*/false);
}

// The keeper has no threads, so everything may be done between fork and exec.
void Keeper::BecomeChild() {
  std::vector<std::string> environment = ChildEnvironment();
  const std::vector<char*> variables = Pointers(environment);
  const std::vector<char*> words = Pointers(command_);
  if (kept_.MoveIntoPlace()) {
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
    execve(program_.c_str(), words.data(), variables.data());
    // In the middle of an upgrade there is no program under that name.
    execve(kThisProgram, words.data(), variables.data());
  }
  spdlog::error("{}", std::string(absl::ErrnoToStatus(errno, "cannot run " + program_).message()));
  _exit(kExitUnavailable);
}

std::vector<std::string> Keeper::ChildEnvironment() const {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsOurs(*variable)) variables.emplace_back(*variable);
  }
  const pid_t self = getpid();
  if (std::getenv("WATCHDOG_PID") != nullptr) {
    variables.push_back(absl::StrCat("WATCHDOG_PID=", self));
  }
  variables.push_back(absl::StrCat("NOTIFY_SOCKET=", notify_->path()));
  variables.push_back(absl::StrCat("FDSTORE=", kept_.max()));
  if (kept_.size() > 0) {
    variables.push_back(absl::StrCat("LISTEN_PID=", self));
    variables.push_back(absl::StrCat("LISTEN_FDS=", kept_.size()));
    variables.push_back(absl::StrCat("LISTEN_FDNAMES=", kept_.Names()));
  }
  return variables;
}

void Keeper::TakeSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    stopping_ = true;
    if (child_ == 0) {
      exit_code_ = kExitOk;
      return;
    }
    sd_notify(0, "STOPPING=1");
    kill(child_, static_cast<int>(info.ssi_signo));
  }
}

void Keeper::TakeMessages() {
  while (std::optional<NotifyMessage> message = notify_->Receive()) Take(*std::move(message));
}

void Keeper::Take(NotifyMessage message) {
  if (child_ == 0 || message.pid != child_ || message.uid != getuid()) return;
  // A barrier is answered by closing its descriptor, which the end of the message does. It counts
  // for what came before it, so it has nothing beside it.
  if (message.Has("BARRIER=1")) return;
  if (message.Has("READY=1")) {
    served_ = true;
    sd_notify(0, "READY=1");
  }
  if (message.Has("WATCHDOG=1")) sd_notify(0, "WATCHDOG=1");
  if (const std::optional<std::string> words = message.Value("STATUS")) {
    sd_notify(0, absl::StrCat("STATUS=", *words).c_str());
  }
  if (message.Has("FDSTOREREMOVE=1")) {
    if (const std::optional<std::string> name = message.Value("FDNAME")) kept_.Remove(*name);
  } else if (message.Has("FDSTORE=1")) {
    Keep(std::move(message));
  }
}

void Keeper::Keep(NotifyMessage message) {
  const std::string name = message.Value("FDNAME").value_or("stored");
  const bool until_hang_up = !message.Has("FDPOLL=0");
  for (UniqueFd& fd : message.fds) {
    const absl::Status kept = kept_.Add(name, std::move(fd), until_hang_up);
    if (!kept.ok()) {
      spdlog::warn("a file descriptor is not kept: {}", std::string(kept.message()));
    }
  }
}

void Keeper::TakeEnd() {
  // What it stored just before its end was stored. While it is not waited for, nobody else can have
  // its pid.
  TakeMessages();
  siginfo_t info = {};
  if (waitid(P_PIDFD, static_cast<id_t>(child_end_.get()), &info, WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0) {
    return;
  }
  child_end_.Reset();
  const pid_t pid = std::exchange(child_, 0);
  const bool exited = info.si_code == CLD_EXITED;
  const int code = exited ? info.si_status : 128 + info.si_status;
  if (stopping_ || code == kExitOk || code == kExitUsage) {
    exit_code_ = code;
    return;
  }
  const absl::Duration pause = spacing_.AfterEnd(absl::Now() - started_, served_);
  next_start_ = absl::Now() + pause;
  spdlog::warn("tenured (pid {}) {} {}; the next starts in {} and gets {} file descriptors", pid,
               exited ? "ended with" : "was ended by signal", info.si_status,
               absl::FormatDuration(absl::Trunc(pause, absl::Milliseconds(1))), kept_.size());
}

std::vector<std::string> CommandWithoutKeeper(int argc, char** argv) {
  std::vector<std::string> command;
  for (int i = 0; i < argc; ++i) {
    const absl::string_view word = argv[i];
    if (word != "--keeper" && !absl::StartsWith(word, "--keeper=")) command.emplace_back(word);
  }
  return command;
}

int Fail(const absl::Status& status) {
  spdlog::error("{}", std::string(status.message()));
  return kExitUnavailable;
}

}  // namespace

absl::Duration StartSpacing::AfterEnd(absl::Duration lived, bool served) {
  spacing_ = served ? shortest_ : std::min(spacing_ * 2, longest_);
  return std::max(absl::ZeroDuration(), spacing_ - lived);
}

int RunKeeper(const KeeperOptions& options, int argc, char** argv) {
  sigset_t end_signals;
  sigset_t mask;
  sigemptyset(&end_signals);
  sigaddset(&end_signals, SIGTERM);
  sigaddset(&end_signals, SIGINT);
  sigprocmask(SIG_BLOCK, &end_signals, &mask);
  UniqueFd signals(signalfd(-1, &end_signals, SFD_CLOEXEC | SFD_NONBLOCK));
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!signals || !epoll) {
    return Fail(absl::ErrnoToStatus(errno, "the keeper cannot open what it needs"));
  }
  absl::StatusOr<std::unique_ptr<NotifySocket>> notify = NotifySocket::Open();
  if (!notify.ok()) return Fail(notify.status());
  return Keeper(options, CommandWithoutKeeper(argc, argv), mask, *std::move(notify),
                std::move(epoll), std::move(signals))
      .Run();
}

}  // namespace tenure::server
