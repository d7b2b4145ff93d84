#include "server/report/event_log.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "server/report/reclaim_times.h"
#include "server/transport/token_bucket.h"

namespace tenure::server {

namespace {

// Lets through a line a second after a burst of 20, and counts the others. There is one for each
// kind of line in the whole process, because lines are written until its very end.
class LineLimit {
 public:
  // What the line ends with; nullopt if it is left out.
  std::optional<std::string> End() {
    if (!lines_.Take(clock_.Now())) {
      left_out_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    const uint64_t left_out = left_out_.exchange(0, std::memory_order_relaxed);
    return left_out == 0 ? "" : absl::StrCat(" (and ", left_out, " lines like this one before)");
  }

 private:
  const SystemClock clock_{};
  TokenBucket lines_{/*per_second=*/1, /*burst=*/20};
  std::atomic<uint64_t> left_out_ = 0;
};

std::string Who(const Peer& peer) {
  return absl::StrCat("process ", peer.pid(), " of ", peer.tenant().ToString());
}

}  // namespace

void LogCutConnection(pid_t pid, const absl::Status& why) {
  static LineLimit limit;
  if (const auto end = limit.End()) {
    spdlog::warn("cut a connection of process {}: {}{}", pid, std::string(why.message()), *end);
  }
}

void LogTurnedAway(uid_t uid, const absl::Status& why) {
  static LineLimit limit;
  if (const auto end = limit.End()) {
    spdlog::warn("turned a connection of uid:{} away: {}{}", uid, std::string(why.message()), *end);
  }
}

void LogRefused(const Peer& caller, const absl::Status& why) {
  static LineLimit warnings;
  static LineLimit debug_lines;
  const bool notable = absl::IsResourceExhausted(why) || absl::IsPermissionDenied(why) ||
                       absl::IsInternal(why) || absl::IsUnavailable(why);
  const spdlog::level::level_enum level = notable ? spdlog::level::warn : spdlog::level::debug;
  // First, so that lines that nobody wants cost nothing.
  if (!spdlog::should_log(level)) return;
  if (const auto end = (notable ? warnings : debug_lines).End()) {
    spdlog::log(level, "refused {}: {}{}", Who(caller), why.ToString(), *end);
  }
}

void LogSessionOpened(const Peer& caller, SessionId session, absl::string_view name) {
  static LineLimit limit;
  if (!spdlog::should_log(spdlog::level::info)) return;
  if (const auto end = limit.End()) {
    spdlog::info("{} ({}) opened session {}{}", Who(caller), std::string(name), session, *end);
  }
}

void LogSessionClosed(const Peer& caller, SessionId session) {
  static LineLimit limit;
  if (!spdlog::should_log(spdlog::level::info)) return;
  if (const auto end = limit.End()) {
    spdlog::info("{} closed session {}{}", Who(caller), session, *end);
  }
}

void LogAdmin(const Peer& caller, absl::string_view call, const absl::Status& outcome) {
  spdlog::info("{} asked for: {}; {}", Who(caller), std::string(call),
               outcome.ok() ? "done" : outcome.ToString());
}

void LogLongQuarantine(const QuarantineInfo& info) {
  spdlog::warn(
      "{} has ended, and {} in {} regions have waited in quarantine for {}: {}; "
      "`tenurectl explain {}` says what to do",
      Who(*info.lease->peer()), FormatBytes(info.bytes), info.regions,
      absl::FormatDuration(absl::Trunc(info.age, absl::Seconds(1))), info.reason,
      info.lease->peer()->pid());
}

void LogHungClientKilled(const Lease& lease, const absl::Status& outcome) {
  const pid_t pid = lease.peer()->pid();
  const std::string tenant = lease.peer()->tenant().ToString();
  if (outcome.ok()) {
    spdlog::warn("process {} of {} sent no keep-alive for too long and was killed", pid, tenant);
    return;
  }
  spdlog::error("process {} of {} sent no keep-alive for too long and still runs: {}", pid, tenant,
                std::string(outcome.message()));
}

void LogPause(absl::Duration unwatched) {
  spdlog::warn(
      "this daemon did not run for {}: it was stopped, or the host was suspended or overloaded. No "
      "lease has run out by that time",
      absl::FormatDuration(absl::Trunc(unwatched, absl::Seconds(1))));
}

void LogSecondTenant(Tenant tenant) {
  spdlog::warn(
      "{} is the second user with a session. Under --isolation tenant any user of the device can "
      "open the handles of any other: it protects users from accidents, not from attacks. Users "
      "that do not trust each other need --isolation strict",
      tenant.ToString());
}

void LogReclaimed(const QuarantineInfo& reclaimed) {
  const Lease& lease = *reclaimed.lease;
  const std::optional<ReclaimTimes> times = ReclaimTimesOf(lease);
  // Without a proof nothing is cleared: the driver gets the memory.
  if (!times) {
    spdlog::info("process {} of {} has exited: {} in {} regions went back to the driver",
                 lease.peer()->pid(), lease.peer()->tenant().ToString(),
                 FormatBytes(reclaimed.bytes), reclaimed.regions);
    return;
  }
  spdlog::info(
      "process {} of {} has exited: {} in {} regions can be used again; quarantined after {:.2f} "
      "ms, proven gone after {:.1f} ms, cleared {:.2f} ms later",
      lease.peer()->pid(), lease.peer()->tenant().ToString(), FormatBytes(reclaimed.bytes),
      reclaimed.regions, absl::ToDoubleMilliseconds(times->quarantined),
      absl::ToDoubleMilliseconds(times->proven), absl::ToDoubleMilliseconds(times->cleared));
}

}  // namespace tenure::server
