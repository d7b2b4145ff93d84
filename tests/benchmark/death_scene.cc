#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

#include "common/check.h"
#include "common/unique_fd.h"
#include "tests/benchmark/honest_client.h"
#include "tests/benchmark/scenes.h"
#include "tests/support/lease_client_process.h"

namespace tenure::testing {
namespace {

// Only a few at a time: each has a CUDA context, which takes half a gigabyte on a GPU.
constexpr int kAtOnce = 25;
constexpr std::chrono::milliseconds kBetweenDeaths{20};
constexpr double kMostOfDeaths = 2;
constexpr double kMostUntilQuarantinedUs = 10'000;

using Crowd = std::deque<LeaseClientProcess>;

// Clients that hold 8 blocks of 512 KiB each and do nothing.
Crowd StartHolders(const TestDaemon& daemon, int count) {
  Crowd holders;
  for (int i = 0; i < count; ++i) {
    holders.emplace_back(
        std::vector<std::string>{"hold", daemon.socket(), std::to_string(512 << 10), "8"});
  }
  for (LeaseClientProcess& holder : holders) {
    TENURE_CHECK(absl::StartsWith(holder.ReadLine(), "held "));
  }
  return holders;
}

Crowd StartStorm(const TestDaemon& daemon, int count) {
  Crowd storm;
  for (int i = 0; i < count; ++i) {
    storm.emplace_back(std::vector<std::string>{"storm", daemon.socket(), std::to_string(i)});
  }
  for (LeaseClientProcess& client : storm) TENURE_CHECK(client.ReadLine() == "storming");
  return storm;
}

// Processes of about the same size that never connect to the daemon.
Crowd StartStrangers(int count) {
  Crowd strangers;
  for (int i = 0; i < count; ++i) {
    strangers.emplace_back(std::vector<std::string>{"crowd", "nowhere", "0"},
                           "disturbance_benchmark");
  }
  for (LeaseClientProcess& stranger : strangers) TENURE_CHECK(stranger.ReadLine() == "open");
  return strangers;
}

// The latencies of the honest client while these processes die at a steady pace.
HonestClient::Latencies WhileTheyDie(HonestClient& honest, const Crowd& crowd) {
  return honest.During([&crowd] {
    for (const LeaseClientProcess& one : crowd) {
      kill(one.pid(), SIGKILL);
      std::this_thread::sleep_for(kBetweenDeaths);
    }
  });
}

// Compares the time of the deaths with an equally long time before, in which the same processes
// live, and with deaths of unrelated processes, which cost the processor but not the daemon. All
// processes are started before, so that no start is measured as part of a death.
void MeasureDeathsBeside(const Settings& settings, int storming, Report& report) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "1h"}, .memory = "4GiB"});
  HonestClient honest(daemon);
  honest.For(std::chrono::seconds(1));
  const Crowd storm = StartStorm(daemon, storming);
  HonestClient::Latencies quiet;
  HonestClient::Latencies dying;
  HonestClient::Latencies strangers_alive;
  HonestClient::Latencies strangers_dying;
  const int deaths = std::max(settings.kills / 2, kAtOnce) / kAtOnce * kAtOnce;
  for (int died = 0; died < deaths; died += kAtOnce) {
    {
      const Crowd strangers = StartStrangers(kAtOnce);
      strangers_alive.Append(honest.For(kAtOnce * kBetweenDeaths));
      strangers_dying.Append(WhileTheyDie(honest, strangers));
    }
    const Crowd holders = StartHolders(daemon, kAtOnce);
    quiet.Append(honest.For(kAtOnce * kBetweenDeaths));
    dying.Append(WhileTheyDie(honest, holders));
  }
  const auto p99 = [](const HonestClient::Latencies& of) { return of.allocates.Quantile(0.99); };
  report.AddPromise(
      absl::StrFormat("%d deaths beside %d storming clients: p99 of an honest Allocate", deaths,
                      storming),
      absl::StrFormat("%s, all alive %s: %.2f x", FormatTime(p99(dying)), FormatTime(p99(quiet)),
                      p99(dying) / p99(quiet)),
      "<= 2 x all alive", p99(dying) <= kMostOfDeaths * p99(quiet));
  report.AddFigure("  as many strangers die: p99",
                   absl::StrFormat("%s, all alive %s: %.2f x", FormatTime(p99(strangers_dying)),
                                   FormatTime(p99(strangers_alive)),
                                   p99(strangers_dying) / p99(strangers_alive)));
  report.AddFigure("  p50",
                   absl::StrFormat("%s, all alive %s", FormatTime(dying.allocates.Quantile(0.5)),
                                   FormatTime(quiet.allocates.Quantile(0.5))));
  report.AddPromise("  honest calls that failed", std::to_string(quiet.failed + dying.failed), "0",
                    quiet.failed + dying.failed == 0);
}

struct QuarantineTimes {
  Samples until_quarantined;  // from the exit
  Samples questions;          // one ListSessions each
};

// Kills the process and asks without a pause until the daemon no longer lists its session.
void TimeQuarantine(TestDaemon& daemon, const LeaseClientProcess& victim, QuarantineTimes& times) {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, victim.pid(), 0)));
  TENURE_CHECK(pidfd);
  kill(victim.pid(), SIGKILL);
  pollfd exit = {pidfd.get(), POLLIN, 0};
  TENURE_CHECK(poll(&exit, 1, 20'000) == 1);
  const SteadyClock::time_point exited = SteadyClock::now();
  const auto is_living = [pid = static_cast<uint32_t>(victim.pid())](const v1::Session& session) {
    return session.pid() == pid;
  };
  bool living = true;
  while (living) {
    const SteadyClock::time_point asked = SteadyClock::now();
    const v1::ListSessionsResponse list = daemon.ListSessions();
    times.questions.Add(MicrosecondsSince(asked));
    living = std::any_of(list.sessions().begin(), list.sessions().end(), is_living);
  }
  times.until_quarantined.Add(MicrosecondsSince(exited));
}

}  // namespace

void MeasureDeaths(const Settings& settings, Report& report) {
  MeasureDeathsBeside(settings, 0, report);
  MeasureDeathsBeside(settings, 2, report);
}

void MeasureQuarantine(const Settings& settings, Report& report) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "1h"}, .memory = "4GiB"});
  QuarantineTimes times;
  for (int died = 0; died < settings.kills; died += kAtOnce) {
    const Crowd victims = StartHolders(daemon, std::min(kAtOnce, settings.kills - died));
    for (const LeaseClientProcess& victim : victims) TimeQuarantine(daemon, victim, times);
  }
  const Samples& until = times.until_quarantined;
  report.AddPromise(
      absl::StrFormat("exit to quarantined, %d kills: p50, p99, longest", until.size()),
      absl::StrFormat("%s, %s, %s", FormatTime(until.Quantile(0.5)),
                      FormatTime(until.Quantile(0.99)), FormatTime(until.Quantile(1))),
      "p99 <= 10 ms", until.Quantile(0.99) <= kMostUntilQuarantinedUs);
  report.AddFigure("  of which the question takes: p50, p99",
                   FormatTime(times.questions.Quantile(0.5)) + ", " +
                       FormatTime(times.questions.Quantile(0.99)));
}

}  // namespace tenure::testing
