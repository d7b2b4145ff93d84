#include "server/keeper/keeper.h"

#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "server/keeper/daemon_process.h"
#include "server/keeper/exit_code.h"
#include "server/keeper/kept_fds.h"
#include "server/keeper/notify_socket.h"
#include "server/keeper/restart_backoff.h"
#include "server/keeper/signals.h"

namespace tenure::server {
namespace {

// Descriptors that the keeper opens for itself, and those that one message may carry.
constexpr size_t kOwnFds = 512;

// Raises the limit of open files to the hard limit. Returns how many descriptors can be
// kept: half of the limit, because each also needs a number of its own in the child (KeptFds).
size_t RaiseFileLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur < kOwnFds ? 0 : (static_cast<size_t>(limit.rlim_cur) - kOwnFds) / 2;
}

// The keeper's one loop: signals, the child's messages, the child's end, and the next start.
class Keeper {
 public:
  // REQUIRES: `signals` is a signalfd of HandledSignals, which are blocked.
  Keeper(const KeeperOptions& options, DaemonProcess child, std::unique_ptr<NotifySocket> notify,
         UniqueFd epoll, UniqueFd signals)
      : notify_(std::move(notify)),
        epoll_(std::move(epoll)),
        signals_(std::move(signals)),
        kept_(std::min(options.max_fds, RaiseFileLimit()), epoll_.get()),
        backoff_(options.shortest_spacing, options.longest_spacing),
        child_(std::move(child)) {
    if (kept_.max() < options.max_fds) {
      spdlog::warn("{} file descriptors can be kept, not {}: the limit of open files is too low",
                   kept_.max(), options.max_fds);
    }
    Watch(signals_.get());
    Watch(notify_->fd());
  }

  // Returns the exit code of the keeper.
  int Run();

 private:
  void Watch(int fd) const;
  // As epoll_wait wants it: in milliseconds, or -1 without a limit.
  int TimeUntilNextStart() const;
  void StartChild();
  void HandleSignals();
  void HandleSignal(int signal);
  void HandleMessages();
  void HandleMessage(NotifyMessage message);
  void StoreFds(NotifyMessage message);
  void HandleChildEnd();

  const std::unique_ptr<NotifySocket> notify_;
  const UniqueFd epoll_;
  const UniqueFd signals_;
  KeptFds kept_;
  RestartBackoff backoff_;

  // The child, and since when it runs and whether it has served. Between the end of one child and
  // the start of the next there is none.
  DaemonProcess child_;
  const SystemClock clock_;
  BootTime started_;
  bool served_ = false;

  BootTime next_start_;
  bool stopping_ = false;  // a signal to end has come
  std::optional<int> exit_code_;
};

int Keeper::Run() {
  while (!exit_code_) {
    if (!child_.running() && clock_.Now() >= next_start_) StartChild();
    std::array<epoll_event, 16> events;
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 TimeUntilNextStart());
    for (int i = 0; i < count; ++i) {
      const int fd = static_cast<int>(events[static_cast<size_t>(i)].data.u64);
      if (fd == signals_.get()) {
        HandleSignals();
      } else if (fd == notify_->fd()) {
        HandleMessages();
      } else if (fd == child_.pidfd()) {
        HandleChildEnd();
      } else {
        kept_.CloseIfHungUp(fd);
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

int Keeper::TimeUntilNextStart() const {
  if (child_.running()) return -1;
  const absl::Duration wait = std::max(absl::ZeroDuration(), next_start_ - clock_.Now());
  // Rounded up: with 0 for the last fraction of a millisecond the loop would spin.
  return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1))));
}

void Keeper::StartChild() {
  started_ = clock_.Now();
  served_ = false;
  const absl::Status started = child_.Start(kept_, notify_->path());
  if (started.ok()) {
    // epoll drops it by itself: a pidfd has no copies, so its close(2) ends it.
    Watch(child_.pidfd());
    return;
  }
  spdlog::error("{}", std::string(started.message()));
  next_start_ = clock_.Now() + backoff_.AfterEnd(absl::ZeroDuration(), /*served=*/false);
}

void Keeper::HandleSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    HandleSignal(static_cast<int>(info.ssi_signo));
  }
}

void Keeper::HandleSignal(int signal) {
  switch (MeaningOf(signal)) {
    case SignalMeaning::kNothing:
      spdlog::warn("the keeper ignores {}, which has no meaning here", SignalName(signal));
      return;
    case SignalMeaning::kReload:
      // The keeper itself has nothing to read again, and a child that starts later reads it anyway.
      if (child_.running()) child_.Signal(signal);
      return;
    case SignalMeaning::kEnd:
      break;
  }
  // Set also while no child runs, so that none is started.
  stopping_ = true;
  if (!child_.running()) {
    exit_code_ = kExitOk;
    return;
  }
  // The supervisor is told first: a child that ends at once must not look like a failure.
  sd_notify(0, "STOPPING=1");
  child_.Signal(signal);
}

void Keeper::HandleMessages() {
  while (std::optional<NotifyMessage> message = notify_->Receive()) {
    HandleMessage(*std::move(message));
  }
}

void Keeper::HandleMessage(NotifyMessage message) {
  // Only the child may store descriptors. Its own children inherit NOTIFY_SOCKET, and so does a
  // daemon that an earlier keeper of this user left behind.
  if (!child_.running() || message.pid != child_.pid() || message.uid != getuid()) return;
  // A barrier is answered by closing its descriptor, which the end of `message` does. Messages are
  // handled in their order, so at that point everything that came before the barrier is done. It
  // stands alone in its message.
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
    StoreFds(std::move(message));
  }
}

void Keeper::StoreFds(NotifyMessage message) {
  const std::string name = message.Value("FDNAME").value_or("stored");
  const bool until_hang_up = !message.Has("FDPOLL=0");
  for (UniqueFd& fd : message.fds) {
    const absl::Status kept = kept_.Add(name, std::move(fd), until_hang_up);
    if (!kept.ok()) {
      spdlog::warn("a file descriptor is not kept: {}", std::string(kept.message()));
    }
  }
}

void Keeper::HandleChildEnd() {
  // The messages before the end: the child may have stored descriptors and died before they were
  // read. They must be read while the child is a zombie, because afterwards its pid, by which
  // HandleMessage knows its messages, may belong to another process.
  HandleMessages();
  const std::optional<ProcessEnd> end = child_.TakeEnd();
  if (!end) return;
  if (stopping_ || end->code() == kExitOk || end->code() == kExitUsage) {
    exit_code_ = end->code();
    return;
  }
  const absl::Duration pause = backoff_.AfterEnd(clock_.Now() - started_, served_);
  next_start_ = clock_.Now() + pause;
  spdlog::warn("tenured (pid {}) {} {}; the next starts in {} and gets {} file descriptors",
               end->pid, end->exited ? "ended with" : "was ended by signal", end->value,
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

int RunKeeper(const KeeperOptions& options, int argc, char** argv) {
  const sigset_t handled = HandledSignals();
  sigset_t mask;
  // Blocked from here on: a signal that comes before the signalfd is read waits in it and is not
  // lost. The child gets back the mask of before.
  sigprocmask(SIG_BLOCK, &handled, &mask);
  UniqueFd signals(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!signals || !epoll) {
    return Fail(
        absl::ErrnoToStatus(errno, "the keeper cannot open a signalfd and an epoll instance"));
  }
  absl::StatusOr<std::unique_ptr<NotifySocket>> notify = NotifySocket::Open();
  if (!notify.ok()) return Fail(notify.status());
  return Keeper(options, DaemonProcess(CommandWithoutKeeper(argc, argv), mask), *std::move(notify),
                std::move(epoll), std::move(signals))
      .Run();
}

}  // namespace tenure::server
