// Many clients that are killed, stopped and forked at random moments while they allocate, fill,
// check and free. TENURE_KILLS, TENURE_STOPS and TENURE_FORKS say how often.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/given_twice.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

int Times(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

bool NothingIsHeld(TestDaemon& daemon) {
  const v1::GetStatsResponse now = daemon.GetStats();
  return now.leased_bytes() == 0 && now.quarantined_bytes() == 0 && now.active_sessions() == 0 &&
         now.suspended_sessions() == 0 && now.active_allocations() == 0;
}

void ExpectBalancedBooks(TestDaemon& daemon) {
  const v1::GetStatsResponse now = daemon.GetStats();
  ASSERT_EQ(now.total_bytes(), now.driver_free_bytes() + now.reserved_bytes() + now.other_bytes());
  ASSERT_EQ(now.reserved_bytes(), now.leased_bytes() + now.warm_bytes() + now.quarantined_bytes());
}

LeaseClientProcess Storm(const TestDaemon& daemon, uint64_t seed) {
  LeaseClientProcess client({"storm", daemon.socket(), std::to_string(seed % 1'000'000)});
  EXPECT_EQ(client.ReadLine(), "storming");
  return client;
}

TEST(KillTest, KilledClientsMemoryComesBackAndNoRegionIsGivenTwice) {
  constexpr size_t kAtOnce = 4;
  TestDaemon daemon(TestDaemon::Options{.memory = "4GiB"});
  const v1::GetStatsResponse before = daemon.GetStats();
  std::mt19937 random(20261123);
  std::deque<LeaseClientProcess> clients;
  const int kills = Times("TENURE_KILLS", 200);
  for (int kill = 0; kill < kills; ++kill) {
    while (clients.size() < kAtOnce) clients.push_back(Storm(daemon, random()));
    // The wait makes the time of what follows random.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
    ASSERT_EQ(GivenTwice(daemon.ListAllocations()), "");
    ExpectBalancedBooks(daemon);
    ASSERT_EQ(clients.front().Kill(), 128 + SIGKILL)
        << "the client saw bytes that are not its own, or failed";
    clients.pop_front();
  }
  while (!clients.empty()) {
    ASSERT_EQ(clients.front().Kill(), 128 + SIGKILL);
    clients.pop_front();
  }
  EXPECT_TRUE(Eventually([&] {
    return NothingIsHeld(daemon) && daemon.GetStats().other_bytes() <= before.other_bytes();
  })) << daemon.GetStats().DebugString()
      << daemon.ListSessions().DebugString();
  EXPECT_GE(daemon.GetStats().totals().sessions_reclaimed(), static_cast<uint64_t>(kills));
  EXPECT_EQ(daemon.Stop(), 0);
}

// The lease lasts 100 ms, and clients are stopped for up to three times as long. Some continue in
// time, some are suspended, some continue just at the deadline. None loses memory.
TEST(KillTest, StoppedClientsLoseNothing) {
  constexpr size_t kAtOnce = 3;
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "100ms"}, .memory = "2GiB"});
  std::mt19937 random(20261124);
  std::deque<LeaseClientProcess> clients;
  while (clients.size() < kAtOnce) clients.push_back(Storm(daemon, random()));
  const int stops = Times("TENURE_STOPS", 20);
  for (int stop = 0; stop < stops; ++stop) {
    LeaseClientProcess& client = clients[random() % kAtOnce];
    ASSERT_EQ(kill(client.pid(), SIGSTOP), 0);
    // The wait makes the time of what follows random.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 300'000));
    ASSERT_EQ(GivenTwice(daemon.ListAllocations()), "");
    ExpectBalancedBooks(daemon);
    ASSERT_EQ(kill(client.pid(), SIGCONT), 0);
    ASSERT_TRUE(Eventually([&] { return daemon.GetStats().suspended_sessions() == 0; }));
    ASSERT_EQ(daemon.GetStats().active_sessions(), kAtOnce);
  }
  EXPECT_EQ(daemon.GetStats().totals().sessions_reclaimed(), 0u);
  for (LeaseClientProcess& client : clients) {
    EXPECT_EQ(client.Kill(), 128 + SIGKILL)
        << "the client saw bytes that are not its own, or failed";
  }
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(daemon); }));
  EXPECT_EQ(daemon.Stop(), 0);
}

TEST(KillTest, ASurvivingChildKeepsItsParentsMemoryOutOfEveryHand) {
  TestDaemon daemon(TestDaemon::Options{.memory = "2GiB"});
  LeaseClientProcess neighbour = Storm(daemon, 1);
  std::mt19937 random(20261124);
  const int forks = Times("TENURE_FORKS", 10);
  for (int fork = 0; fork < forks; ++fork) {
    LeaseClientProcess parent(
        {"clone", daemon.socket(), std::to_string(1 + random() % MiB(6).value())});
    const std::string line = parent.ReadLine();
    ASSERT_EQ(line.substr(0, 7), "forked ");
    const pid_t child = std::stoi(line.substr(7));
    const uint32_t pid = static_cast<uint32_t>(parent.pid());
    ASSERT_EQ(parent.Kill(), 128 + SIGKILL);
    const auto in_quarantine = [&] {
      const v1::ListSessionsResponse list = daemon.ListSessions();
      return std::any_of(list.quarantines().begin(), list.quarantines().end(),
                         [pid](const v1::Quarantine& one) { return one.pid() == pid; });
    };
    ASSERT_TRUE(Eventually(in_quarantine));
    for (const v1::Allocation& one : daemon.ListAllocations()) ASSERT_NE(one.pid(), pid);
    ExpectBalancedBooks(daemon);
    ASSERT_TRUE(in_quarantine()) << "it came back while the child lives";
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] { return !in_quarantine(); }));
  }
  EXPECT_EQ(neighbour.Kill(), 128 + SIGKILL) << "it found a byte of another process";
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(daemon); }));
  EXPECT_EQ(daemon.Stop(), 0);
}

}  // namespace
}  // namespace tenure::testing
