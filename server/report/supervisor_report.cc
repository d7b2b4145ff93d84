#include "server/report/supervisor_report.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include <systemd/sd-daemon.h>

namespace tenure::server {
namespace {

// How often the line is sent.
constexpr std::chrono::microseconds kPause = std::chrono::seconds(5);

}  // namespace

SupervisorReport::SupervisorReport(std::function<absl::StatusOr<std::string>()> describe)
    : describe_(std::move(describe)), thread_([this] { Run(); }) {}

SupervisorReport::~SupervisorReport() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void SupervisorReport::Run() {
  uint64_t watchdog_usec = 0;
  const bool watched = sd_watchdog_enabled(/*unset_environment=*/0, &watchdog_usec) > 0;
  // Three times in the time that the supervisor waits.
  const auto pause =
      watched ? std::min(kPause, std::chrono::microseconds(watchdog_usec / 3)) : kPause;
  std::unique_lock<std::mutex> lock(mu_);
  while (!stopping_) {
    lock.unlock();
    const absl::StatusOr<std::string> line = describe_();
    if (line.ok())
      sd_notify(0, absl::StrCat(watched ? "WATCHDOG=1\n" : "", "STATUS=", *line).c_str());
    lock.lock();
    stop_.wait_for(lock, pause, [this] { return stopping_; });
  }
}

}  // namespace tenure::server
