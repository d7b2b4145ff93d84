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

namespace tenure::server {
namespace {

// How long to wait between two looks at the driver's process list while something is quarantined:
// short at first, since the list usually follows the exit within milliseconds, then longer, since a
// surviving child may keep it for hours.
constexpr absl::Duration kFirstLook = absl::Milliseconds(1);
constexpr absl::Duration kLongestLook = absl::Milliseconds(100);
// With nothing quarantined: how often silent clients are looked for. A request that was under way
// when its client died brings its region here a little later, too.
constexpr absl::Duration kIdleLook = absl::Milliseconds(200);
constexpr absl::Duration kMaintenanceLook = absl::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<Reaper>> Reaper::Create(LeaseRegistry& registry, Fence& fence,
                                                       OverdueWatch& overdue, DeviceHeap& heap) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !wake) return absl::ErrnoToStatus(errno, "cannot open the reaper");
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = wake.get();
  TENURE_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) == 0);
  return std::unique_ptr<Reaper>(
      new Reaper(registry, fence, overdue, heap, std::move(epoll), std::move(wake)));
}

Reaper::Reaper(LeaseRegistry& registry, Fence& fence, OverdueWatch& overdue, DeviceHeap& heap,
               UniqueFd epoll, UniqueFd wake)
    : registry_(registry),
      fence_(fence),
      overdue_(overdue),
      heap_(heap),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)) {}

Reaper::~Reaper() { Stop(); }

void Reaper::Start() {
  deaths_ = std::thread([this] { WatchDeaths(); });
  proofs_ = std::thread([this] { Prove(); });
  clearing_ = std::thread([this] { Clear(); });
  supply_ = std::thread([this] { Supply(); });
}

void Reaper::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  TENURE_CHECK(write(wake_.get(), &one, sizeof one) == sizeof one);
  if (deaths_.joinable()) deaths_.join();
  if (proofs_.joinable()) proofs_.join();
  if (clearing_.joinable()) clearing_.join();
  if (supply_.joinable()) supply_.join();
}

absl::Status Reaper::Watch(const std::shared_ptr<const Peer>& peer) {
  absl::MutexLock lock(&mu_);
  if (!known_.insert(peer->key()).second) return absl::OkStatus();
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.fd = peer->pidfd();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, peer->pidfd(), &event) == 0) {
    watched_.emplace(peer->pidfd(), peer);
    return absl::OkStatus();
  }
  known_.erase(peer->key());
  return absl::ErrnoToStatus(errno, "cannot watch the calling process");
}

void Reaper::WatchDeaths() {
  std::array<epoll_event, 64> events = {};
  while (!Stopping()) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), /*timeout=*/-1);
    TENURE_CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_.get()) continue;
      const std::shared_ptr<const Peer> dead = Unwatch(fd);
      if (dead != nullptr) registry_.Reclaim(dead->key());
    }
    absl::MutexLock lock(&mu_);
    news_ = true;
  }
}

std::shared_ptr<const Peer> Reaper::Unwatch(int pidfd) {
  absl::MutexLock lock(&mu_);
  const auto found = watched_.find(pidfd);
  if (found == watched_.end()) return nullptr;
  std::shared_ptr<const Peer> peer = found->second;
  watched_.erase(found);
  known_.erase(peer->key());
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pidfd, nullptr);
  return peer;
}

void Reaper::Prove() {
  absl::Duration pause = kFirstLook;
  absl::Time look_at = absl::Now();
  while (!Stopping()) {
    {
      absl::MutexLock lock(&mu_);
      const bool news = mu_.AwaitWithTimeout(absl::Condition(this, &Reaper::HasToProve),
                                             fence_.waiting() ? pause : kIdleLook);
      news_ = false;
      pause = news ? kFirstLook : std::min(pause * 2, kLongestLook);
    }
    fence_.Poll();
    if (absl::Now() < look_at) continue;
    overdue_.Look();
    look_at = absl::Now() + kIdleLook;
  }
}

void Reaper::Clear() {
  while (!Stopping()) {
    if (!heap_.ClearOnce()) heap_.WaitForClearing(kMaintenanceLook);
  }
}

void Reaper::Supply() {
  while (!Stopping()) {
    if (!heap_.SupplyOnce()) heap_.WaitForSupply(kMaintenanceLook);
  }
}

bool Reaper::Stopping() const {
  absl::MutexLock lock(&mu_);
  return stopping_;
}

}  // namespace tenure::server
