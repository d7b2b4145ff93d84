#include "server/report/event_log.h"

#include <optional>
#include <string>

#include <spdlog/spdlog.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "server/report/reclaim_times.h"
#include "server/transport/token_bucket.h"

namespace tenure::server {

void LogCutConnection(pid_t pid, const absl::Status& why) {
  // One limit for the process: connections are cut on gRPC's threads until the very end.
  static const SystemClock clock;
  static TokenBucket lines(/*per_second=*/1, /*burst=*/20);
  if (!lines.Take(clock.Now())) return;
  spdlog::warn("cut a connection of process {}: {}", pid, std::string(why.message()));
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
