#include "server/background/reaper.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/time/clock.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/cuda/no_driver_calls.h"

namespace tenure::server {
namespace {

// The pause between two polls of the fence while anything is in quarantine. It starts short, since
// the driver's process list usually follows the exit within milliseconds. It doubles up to the
// longest, since a surviving child may keep a process on the list for hours.
constexpr absl::Duration kFirstPollPause = absl::Milliseconds(1);
constexpr absl::Duration kLongestPollPause = absl::Milliseconds(100);
// How often the overdue watch runs, and the fence is polled when nothing is in quarantine: a
// request that was in progress when its client died may bring its region there a little later.
constexpr absl::Duration kIdlePause = absl::Milliseconds(200);

}  // namespace

absl::StatusOr<std::unique_ptr<Reaper>> Reaper::Create(LeaseRegistry& registry, Fence& fence,
                                                       OverdueWatch& overdue) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !wake)
    return absl::ErrnoToStatus(errno,
                               "cannot open an epoll instance and an eventfd to watch processes");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = wake.get();
  TENURE_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) == 0);
  return std::unique_ptr<Reaper>(
      new Reaper(registry, fence, overdue, std::move(epoll), std::move(wake)));
}

Reaper::Reaper(LeaseRegistry& registry, Fence& fence, OverdueWatch& overdue, UniqueFd epoll,
               UniqueFd wake)
    : registry_(registry),
      fence_(fence),
      overdue_(overdue),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)) {}

Reaper::~Reaper() { Stop(); }

void Reaper::Start() {
  exit_thread_ = std::thread([this] { ReclaimExited(); });
  proof_thread_ = std::thread([this] { ProveExits(); });
}

void Reaper::Stop() {
  // First the flag, then the wake-up: the exit thread reads the flag when it wakes. The proof
  // thread waits for the flag itself.
  {
    cuda::NoDriverCallsLock lock(&mu_);
    stopping_ = true;
    poll_now_.SignalAll();
  }
  const uint64_t one = 1;
  TENURE_CHECK(write(wake_.get(), &one, sizeof one) == sizeof one);
  if (exit_thread_.joinable()) exit_thread_.join();
  if (proof_thread_.joinable()) proof_thread_.join();
}

absl::Status Reaper::Watch(const std::shared_ptr<const Peer>& peer) {
  cuda::NoDriverCallsLock lock(&mu_);
  if (!known_.insert(peer->key()).second) return absl::OkStatus();
  epoll_event event = {};
  // Once: a pidfd stays readable, and the exit thread removes it only after it was reported. Epoll
  // is level-triggered, so an exit before this line is reported as well.
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.fd = peer->pidfd();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, peer->pidfd(), &event) == 0) {
    watched_.emplace(peer->pidfd(), peer);
    return absl::OkStatus();
  }
  known_.erase(peer->key());
  return absl::ErrnoToStatus(errno, "cannot watch the calling process");
}

void Reaper::ReclaimExited() {
  std::array<epoll_event, 64> events = {};
  while (!Stopping()) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), /*timeout=*/-1);
    TENURE_CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_.get()) continue;
      const std::shared_ptr<const Peer> dead = Unwatch(fd);
      // After Unwatch, which released the lock: the registry hands regions to the quarantine here.
      if (dead != nullptr) registry_.Reclaim(dead->key());
    }
    // After all are reclaimed, so that the poll that this starts finds their regions in quarantine.
    cuda::NoDriverCallsLock lock(&mu_);
    exit_seen_ = true;
    poll_now_.SignalAll();
  }
}

std::shared_ptr<const Peer> Reaper::Unwatch(int pidfd) {
  cuda::NoDriverCallsLock lock(&mu_);
  const auto found = watched_.find(pidfd);
  if (found == watched_.end()) return nullptr;
  std::shared_ptr<const Peer> peer = found->second;
  watched_.erase(found);
  known_.erase(peer->key());
  // While `peer` still holds the pidfd open: once it is closed, its number may mean another file.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pidfd, nullptr);
  return peer;
}

void Reaper::ProveExits() {
  absl::Duration pause = kFirstPollPause;
  const SystemClock clock;
  BootTime next_overdue_check = clock.Now();
  while (!Stopping()) {
    const absl::Duration longest = fence_.HasWaiting() ? pause : kIdlePause;
    {
      cuda::NoDriverCallsLock lock(&mu_);
      const bool exit_seen =
          poll_now_.AwaitFor(mu_, absl::Condition(this, &Reaper::ShouldPollNow), longest);
      // Reset before the poll: an exit that is seen during the poll starts another one.
      exit_seen_ = false;
      pause = exit_seen ? kFirstPollPause : std::min(pause * 2, kLongestPollPause);
    }
    fence_.Poll();
    if (clock.Now() < next_overdue_check) continue;
    overdue_.Check();
    next_overdue_check = clock.Now() + kIdlePause;
  }
}

bool Reaper::Stopping() const {
  cuda::NoDriverCallsLock lock(&mu_);
  return stopping_;
}

}  // namespace tenure::server
