// Many clients, each killed at a random moment while it allocates, fills, checks and frees.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/lease_client_process.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

int Kills() {
  const char* text = std::getenv("TENURE_KILLS");
  return text == nullptr ? 200 : std::atoi(text);
}

// No byte of any region belongs to two allocations, and no region to two processes.
void ExpectNothingIsGivenTwice(std::vector<v1::Allocation> allocations) {
  std::sort(allocations.begin(), allocations.end(),
            [](const v1::Allocation& a, const v1::Allocation& b) {
              return std::make_pair(a.region_id(), a.offset_bytes()) <
                     std::make_pair(b.region_id(), b.offset_bytes());
            });
  for (size_t i = 1; i < allocations.size(); ++i) {
    const v1::Allocation& before = allocations[i - 1];
    const v1::Allocation& after = allocations[i];
    if (before.region_id() != after.region_id()) continue;
    ASSERT_EQ(before.pid(), after.pid())
        << "region " << after.region_id() << " serves two processes";
    ASSERT_LE(before.offset_bytes() + before.size_bytes(), after.offset_bytes())
        << "blocks overlap";
  }
}

TEST(KillTest, KilledClientsMemoryComesBackAndNoRegionIsGivenTwice) {
  constexpr size_t kAtOnce = 4;
  TestDaemon daemon(TestDaemon::Options{.memory = "4GiB"});
  const v1::GetStatsResponse before = daemon.GetStats();
  std::mt19937 random(20261123);
  std::deque<LeaseClientProcess> clients;
  for (int kill = 0; kill < Kills(); ++kill) {
    while (clients.size() < kAtOnce) {
      clients.emplace_back(
          std::vector<std::string>{"storm", daemon.socket(), std::to_string(random() % 1'000'000)});
      ASSERT_EQ(clients.back().ReadLine(), "storming");
    }
    // The random moment is the point of this wait.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
    ExpectNothingIsGivenTwice(daemon.ListAllocations());
    const v1::GetStatsResponse now = daemon.GetStats();
    ASSERT_EQ(now.total_bytes(),
              now.driver_free_bytes() + now.reserved_bytes() + now.other_bytes());
    ASSERT_EQ(now.reserved_bytes(),
              now.leased_bytes() + now.warm_bytes() + now.quarantined_bytes());
    ASSERT_EQ(clients.front().Kill(), 128 + SIGKILL)
        << "the client saw bytes that are not its own, or failed";
    clients.pop_front();
  }
  while (!clients.empty()) {
    ASSERT_EQ(clients.front().Kill(), 128 + SIGKILL);
    clients.pop_front();
  }
  EXPECT_TRUE(Eventually([&] {
    const v1::GetStatsResponse now = daemon.GetStats();
    return now.leased_bytes() == 0 && now.quarantined_bytes() == 0 && now.active_sessions() == 0 &&
           now.active_allocations() == 0 && now.other_bytes() <= before.other_bytes();
  })) << daemon.GetStats().DebugString()
      << daemon.ListSessions().DebugString();
  EXPECT_GE(daemon.GetStats().totals().sessions_reclaimed(), static_cast<uint64_t>(Kills()));
  EXPECT_EQ(daemon.Stop(), 0);
}

}  // namespace
}  // namespace tenure::testing
