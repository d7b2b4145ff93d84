// The daemon dies, again and again, while its clients' kernels run on memory that outlives it.
// Needs a GPU; how many deaths, TENURE_DAEMON_KILLS says.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/kept_daemon.h"
#include "tests/support/lease_client_process.h"

namespace tenure::testing {
namespace {

int Deaths() {
  const char* const text = std::getenv("TENURE_DAEMON_KILLS");
  return text == nullptr ? 100 : std::atoi(text);
}

void PrintSpread(const char* what, std::vector<double> milliseconds) {
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto at = [&](double share) {
    return milliseconds[static_cast<size_t>(share * static_cast<double>(milliseconds.size() - 1))];
  };
  std::printf("figure: %s: p50 %.0f ms, p99 %.0f ms, longest %.0f ms, of %zu\n", what, at(0.5),
              at(0.99), milliseconds.back(), milliseconds.size());
}

TEST(DaemonDeathTest, KernelsRunOnAndLeasesStay) {
  constexpr size_t kClients = 3;
  KeptDaemon daemon({}, "8GiB");
  std::deque<LeaseClientProcess> clients;
  while (clients.size() < kClients) {
    clients.push_back(LeaseClientProcess(
        {"count", daemon.socket(), std::to_string(MiB(16).value())}, "kernel_client"));
  }
  for (LeaseClientProcess& client : clients) ASSERT_EQ(client.ReadLine(), "counting");
  std::mt19937 random(20261125);
  std::vector<double> away;
  for (int death = 0; death < Deaths(); ++death) {
    // The random moment is the point of this wait.
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
    const auto killed = std::chrono::steady_clock::now();
    ASSERT_TRUE(daemon.KillAndAwaitNext());
    away.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - killed)
            .count());
    ASSERT_EQ(daemon.ListAllocations().size(), kClients);
    ASSERT_GE(daemon.GetStats().leased_bytes(), kClients * MiB(16).value());
  }
  PrintSpread("from SIGKILL to serving again", away);
  for (LeaseClientProcess& client : clients) {
    ASSERT_EQ(kill(client.pid(), SIGTERM), 0);
    std::printf("figure: a client ran %s kernels\n", client.ReadLine().c_str());
    EXPECT_EQ(client.WaitForEnd(), 0);
  }
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().leased_bytes() == 0; }));
}

}  // namespace
}  // namespace tenure::testing
