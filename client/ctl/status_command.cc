#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/ctl/commands.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/stats_client.h"
#include "client/ctl/table.h"
#include "client/ctl/text.h"
#include "common/bytes.h"

namespace tenure::ctl {
namespace {

constexpr size_t kBarWidth = 32;

std::string DaemonLines(const v1::GetStatsResponse& stats, const std::string& socket,
                        bool colourful) {
  const bool serving = stats.health() == "SERVING";
  std::string text = absl::StrCat(
      Toned("device       ", Tone::kHeading, colourful), Printable(stats.device_name()), "  ",
      Printable(stats.device_uuid()), "\n", Toned("driver       ", Tone::kHeading, colourful),
      Printable(stats.driver()), " ", Printable(stats.driver_version()), "\n",
      Toned("daemon       ", Tone::kHeading, colourful),
      Toned(Printable(stats.health()), serving ? Tone::kGood : Tone::kBad, colourful), ", up ",
      Age(stats.uptime_ms()), ", epoch ", stats.epoch(), ", ", socket, "\n");
  // Set only while the daemon is not serving: the failure that ends it.
  if (!stats.health_reason().empty()) {
    absl::StrAppend(&text, "             ", Printable(stats.health_reason()), "\n");
  }
  return text;
}

// "  leased   1.5 GiB   9.4 %  ###-----": one share of the device's memory.
std::string MemoryLine(absl::string_view name, uint64_t part_bytes, uint64_t whole_bytes) {
  const Bytes part(part_bytes);
  const Bytes whole(whole_bytes);
  return absl::StrFormat("  %-11s%12s %8s  %s\n", name, FormatBytes(part), Percent(part, whole),
                         Bar(part, whole, kBarWidth));
}

std::string MemoryLines(const v1::GetStatsResponse& stats, bool colourful) {
  const uint64_t total = stats.total_bytes();
  // Each share is a share of the whole device, so the five bars add up to one full bar.
  return absl::StrCat(Toned("memory       ", Tone::kHeading, colourful), FormatBytes(Bytes(total)),
                      ", of which the daemon holds ", FormatBytes(Bytes(stats.reserved_bytes())),
                      ":\n", MemoryLine("leased", stats.leased_bytes(), total),
                      MemoryLine("warm", stats.warm_bytes(), total),
                      MemoryLine("quarantined", stats.quarantined_bytes(), total), "and others:\n",
                      MemoryLine("other", stats.other_bytes(), total),
                      MemoryLine("free", stats.driver_free_bytes(), total));
}

std::string UseLines(const v1::GetStatsResponse& stats, bool colourful) {
  const v1::Totals& totals = stats.totals();
  return absl::StrCat(
      Toned("sessions     ", Tone::kHeading, colourful), stats.active_sessions(), " active, ",
      stats.suspended_sessions(), " suspended\n", Toned("allocations  ", Tone::kHeading, colourful),
      stats.active_allocations(), " live: ", FormatBytes(Bytes(stats.allocated_bytes())),
      " granted for ", FormatBytes(Bytes(stats.requested_bytes())), " asked for\n",
      Toned("since start  ", Tone::kHeading, colourful), totals.allocations(), " allocations, ",
      totals.refused_allocations(), " refused, ", totals.frees(), " freed, ",
      totals.reclaimed_allocations(), " reclaimed; ", totals.sessions_opened(),
      " sessions opened, ", totals.sessions_reclaimed(), " reclaimed\n");
}

std::string SegmentLines(const v1::GetStatsResponse& stats, bool colourful) {
  return absl::StrCat(Toned("segments     ", Tone::kHeading, colourful), stats.segments(), ": ",
                      FormatBytes(Bytes(stats.segment_bytes())), ", attached ",
                      Count(stats.attachments(), "time"), "\n");
}

std::string RecoveryLines(const v1::Recovered& recovered) {
  std::string text = absl::StrCat("             restored from epoch ", recovered.previous_epoch(),
                                  ": ", Count(recovered.sessions(), "session"), " with ",
                                  Count(recovered.allocations(), "allocation"), ", ",
                                  Count(recovered.segments(), "segment"), ", ",
                                  FormatBytes(Bytes(recovered.region_bytes())), " in ",
                                  Count(recovered.regions(), "region"), "\n");
  if (recovered.dead_sessions() > 0) {
    absl::StrAppend(&text, "             ", recovered.dead_sessions(),
                    " of these sessions' processes died before this daemon started\n");
  }
  if (recovered.lost_regions() > 0) {
    absl::StrAppend(&text, "             LOST: ", Count(recovered.lost_regions(), "region"),
                    " whose descriptor was not stored\n");
  }
  return text;
}

// Whether memory outlives the daemon's process, and what this daemon has restored.
std::string SurvivalLines(const v1::Survival& survival, bool colourful) {
  std::string text = Toned("survival     ", Tone::kHeading, colourful);
  if (survival.state() == "ON") {
    absl::StrAppend(&text, Toned("ON", Tone::kGood, colourful), ", ", survival.stored_descriptors(),
                    " of at most ", Count(survival.max_stored_descriptors(), "descriptor"),
                    " with the supervisor\n");
  } else if (survival.state() == "LOST") {
    absl::StrAppend(&text, Toned("LOST", Tone::kBad, colourful),
                    ", the supervisor has ended: no more memory of kind VMM_FD is granted\n");
  } else {
    absl::StrAppend(&text, "OFF, no supervisor: all memory ends with the daemon\n");
  }
  // Absent when the daemon found no journal of a predecessor.
  if (survival.has_recovered()) absl::StrAppend(&text, RecoveryLines(survival.recovered()));
  return text;
}

std::string MetricsLine(const v1::GetStatsResponse& stats, bool colourful) {
  const std::string heading = Toned("metrics      ", Tone::kHeading, colourful);
  // A daemon of an earlier version does not say.
  if (stats.metrics_address().empty()) return absl::StrCat(heading, "off\n");
  if (stats.metrics_trouble().empty()) {
    return absl::StrCat(heading, "http://", Printable(stats.metrics_address()), "/metrics\n");
  }
  return absl::StrCat(heading, Toned("NOT SERVED", Tone::kBad, colourful), " at ",
                      Printable(stats.metrics_address()), ": ", Printable(stats.metrics_trouble()),
                      "\n");
}

std::string PoolLines(const v1::GetStatsResponse& stats, bool colourful) {
  Table table({{"block", Table::Align::kRight},
               {"blocks", Table::Align::kRight},
               {"allocated", Table::Align::kRight},
               {"free", Table::Align::kRight}});
  for (const v1::Pool& pool : stats.pools()) {
    // A size class whose last block has been freed stays in the list with no blocks.
    if (pool.total_blocks() == 0) continue;
    table.Add({FormatBytes(Bytes(pool.block_size_bytes())), absl::StrCat(pool.total_blocks()),
               absl::StrCat(pool.allocated_blocks()), absl::StrCat(pool.free_blocks())});
  }
  const std::string heading = Toned("pools        ", Tone::kHeading, colourful);
  if (table.empty()) return absl::StrCat(heading, "none in use\n");
  return absl::StrCat(heading, "\n", table.ToString(2));
}

}  // namespace

ExitCode RunStatus(const CommonOptions& options) {
  const absl::StatusOr<StatsClient> client = StatsClient::Open(options.socket);
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::StatusOr<v1::GetStatsResponse> stats = client->GetStats();
  if (!stats.ok()) return Fail(stats.status(), Stage::kCalling);
  if (options.json) {
    std::cout << TextOf(ToJson(*stats)) << "\n";
    return kOk;
  }
  // Whether to print colours is asked once, here. Every function above takes the answer, so it does
  // not depend on a terminal.
  const bool colourful = StdoutIsColourful();
  std::cout << DaemonLines(*stats, options.socket, colourful) << MemoryLines(*stats, colourful)
            << UseLines(*stats, colourful) << SegmentLines(*stats, colourful)
            << SurvivalLines(stats->survival(), colourful) << MetricsLine(*stats, colourful)
            << PoolLines(*stats, colourful);
  return kOk;
}

}  // namespace tenure::ctl
