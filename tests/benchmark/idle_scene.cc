#include <deque>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/check.h"
#include "tests/benchmark/honest_client.h"
#include "tests/benchmark/scenes.h"
#include "tests/support/lease_client_process.h"

namespace tenure::testing {
namespace {

constexpr uint64_t kSessions = 10'000;
constexpr uint64_t kProcesses = 4;
constexpr double kMostKib = 64;

// The resident memory of the process.
double ResidentKib(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  std::string word;
  while (status >> word) {
    double kib = 0;
    if (word == "VmRSS:" && status >> kib) return kib;
  }
  TENURE_CHECK(false);
}

}  // namespace

void MeasureIdleSessions(const Settings& settings, Report& report) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "1h"}});
  HonestClient honest(daemon);
  const HonestClient::Latencies alone = honest.For(std::chrono::seconds(settings.seconds));
  const double before = ResidentKib(daemon.pid());
  const SteadyClock::time_point start = SteadyClock::now();
  std::deque<LeaseClientProcess> crowds;
  for (uint64_t i = 0; i < kProcesses; ++i) {
    crowds.emplace_back(
        std::vector<std::string>{"crowd", daemon.socket(), std::to_string(kSessions / kProcesses)},
        "disturbance_benchmark");
  }
  for (LeaseClientProcess& crowd : crowds) TENURE_CHECK(crowd.ReadLine() == "open");
  const double took = MicrosecondsSince(start);
  const double kib = (ResidentKib(daemon.pid()) - before) / static_cast<double>(kSessions);
  const uint64_t sessions = daemon.GetStats().active_sessions();
  report.AddPromise(absl::StrFormat("%d sessions: the daemon's resident memory, each", sessions),
                    absl::StrFormat("%.1f KiB, %.0f MiB before", kib, before / 1024), "<= 64 KiB",
                    sessions >= kSessions && kib <= kMostKib);
  report.AddFigure("  opened by 4 processes within", FormatTime(took));
  const HonestClient::Latencies among = honest.For(std::chrono::seconds(settings.seconds));
  report.AddFigure(
      "  an honest call among them, p50 and p99",
      absl::StrFormat("%s, %s; alone %s, %s", FormatTime(among.calls.Quantile(0.5)),
                      FormatTime(among.calls.Quantile(0.99)), FormatTime(alone.calls.Quantile(0.5)),
                      FormatTime(alone.calls.Quantile(0.99))));
}

}  // namespace tenure::testing
