// The daemon is killed again and again while its clients allocate, fill, check and free, and while
// the next one restores the state. TENURE_DAEMON_KILLS says how often.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/fd_store_peer_process.h"
#include "tests/support/given_twice.h"
#include "tests/support/journal_reading.h"
#include "tests/support/kept_daemon.h"
#include "tests/support/lease_client_process.h"

namespace tenure::testing {
namespace {

// The exit code of a client that this test killed. With any other code the client has ended by
// itself, because bytes or leases were lost.
constexpr int kKilled = 128 + SIGKILL;
// The exit code of a client whose session is lost.
constexpr int kFailed = 1;
constexpr size_t kStorms = 3;
constexpr uint64_t kHeldBlocks = 12;

int Times(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

// The ids, the offset and the size of a block, which a death of the daemon must not change.
using Place = std::tuple<uint64_t, uint64_t, uint64_t, uint64_t>;

std::vector<Place> PlacesOf(const std::vector<v1::Allocation>& allocations, pid_t pid) {
  std::vector<Place> places;
  for (const v1::Allocation& one : allocations) {
    if (one.pid() != static_cast<uint32_t>(pid)) continue;
    places.emplace_back(one.allocation_id(), one.region_id(), one.offset_bytes(), one.size_bytes());
  }
  std::sort(places.begin(), places.end());
  return places;
}

// Many measurements of one duration.
class Durations {
 public:
  void Add(absl::Duration one) { all_.push_back(one); }
  void Print(const char* what) {
    if (all_.empty()) return;
    std::sort(all_.begin(), all_.end());
    std::printf("figure: %s: p50 %.0f ms, p99 %.0f ms, longest %.0f ms, %zu times\n", what, At(50),
                At(99), At(100), all_.size());
  }

 private:
  double At(size_t percent) const {
    return absl::ToDoubleMilliseconds(all_[(all_.size() - 1) * percent / 100]);
  }

  std::vector<absl::Duration> all_;
};

class DaemonKillTest : public ::testing::Test {
 protected:
  LeaseClientProcess Storm(bool vmm) {
    std::vector<std::string> words = {"storm", daemon_.socket(),
                                      std::to_string(random_() % 1'000'000)};
    if (vmm) words.push_back("vmm");
    LeaseClientProcess client(words);
    EXPECT_EQ(client.ReadLine(), "storming");
    // A session that has no block yet does not survive.
    EXPECT_TRUE(
        Eventually([&] { return !PlacesOf(daemon_.ListAllocations(), client.pid()).empty(); }));
    return client;
  }

  // Starts a client that holds kHeldBlocks blocks of this size and does nothing more.
  void Hold(uint64_t bytes) {
    LeaseClientProcess client(
        {"hold", daemon_.socket(), std::to_string(bytes), std::to_string(kHeldBlocks), "vmm"});
    EXPECT_EQ(client.ReadLine().substr(0, 5), "held ");
    const pid_t pid = client.pid();
    holders_.push_back(std::move(client));
    held_[pid] = PlacesOf(daemon_.ListAllocations(), pid);
    EXPECT_EQ(held_[pid].size(), kHeldBlocks);
  }

  void FillUp() {
    while (storms_.size() < kStorms) storms_.push_back(Storm(/*vmm=*/true));
  }

  // Kills the daemon at a random time. `with_client`: a client is killed first.
  // `recoveries_to_kill`: so many of the next daemons are killed before they serve. Returns when a
  // daemon serves.
  void KillDaemon(bool with_client, uint64_t recoveries_to_kill) {
    // In three of four cases the daemon is killed soon, while clients return to it. In the fourth
    // all of them are at work again.
    Wait(random_() % 4 == 0 ? 500'000 : 50'000);
    if (with_client) {
      // The client is dead or dying when the next daemon looks for it.
      ASSERT_EQ(storms_.front().Kill(), kKilled) << "a client lost bytes or leases";
      storms_.erase(storms_.begin());
      Wait(2'000);
    }
    pid_t victim = daemon_.daemon_pid();
    const absl::Time killed = absl::Now();
    ASSERT_EQ(kill(victim, SIGKILL), 0);
    for (uint64_t i = 0; i < recoveries_to_kill; ++i) {
      const pid_t before = victim;
      ASSERT_TRUE(Eventually([&] {
        victim = daemon_.daemon_pid();
        return victim > 0 && victim != before;
      }));
      Wait(100'000);
      ASSERT_EQ(kill(victim, SIGKILL), 0);
    }
    ASSERT_TRUE(daemon_.AwaitNext(victim)) << "no daemon serves any more";
    (recoveries_to_kill == 0 ? until_served_ : until_served_with_deaths_).Add(absl::Now() - killed);
  }

  void ExpectAllIsWell() {
    const std::vector<v1::Allocation> allocations = daemon_.ListAllocations();
    ASSERT_EQ(GivenTwice(allocations), "");
    for (const auto& [pid, places] : held_) {
      ASSERT_EQ(PlacesOf(allocations, pid), places) << "process " << pid << " lost a block";
    }
    const v1::GetStatsResponse now = daemon_.GetStats();
    ASSERT_EQ(now.total_bytes(),
              now.driver_free_bytes() + now.reserved_bytes() + now.other_bytes());
    ASSERT_EQ(now.reserved_bytes(),
              now.leased_bytes() + now.warm_bytes() + now.quarantined_bytes());
    for (LeaseClientProcess& client : storms_) {
      ASSERT_EQ(client.EndedWith(), std::nullopt) << "a client lost bytes or leases";
    }
    // The client ends because its memory is lost, and not with 3, which reports foreign contents.
    if (ipc_) {
      ASSERT_EQ(ipc_->WaitForEnd(), kFailed);
      ipc_.reset();
    }
  }

  // Checks that every client still allocates and frees.
  void ExpectClientsAtWork() {
    for (const LeaseClientProcess& client : storms_) {
      const std::vector<Place> before = PlacesOf(daemon_.ListAllocations(), client.pid());
      ASSERT_TRUE(Eventually([&] {
        return PlacesOf(daemon_.ListAllocations(), client.pid()) != before;
      })) << "a client allocates and frees nothing more";
    }
  }

  void Wait(unsigned at_most_us) {
    // The wait makes the time of what follows random.
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % at_most_us));
  }

  bool NothingIsHeld() {
    const v1::GetStatsResponse now = daemon_.GetStats();
    return now.leased_bytes() == 0 && now.quarantined_bytes() == 0 && now.active_sessions() == 0 &&
           now.suspended_sessions() == 0 && now.active_allocations() == 0;
  }

  void KillAllClients() {
    for (LeaseClientProcess& client : storms_) ASSERT_EQ(client.Kill(), kKilled);
    for (LeaseClientProcess& client : holders_) ASSERT_EQ(client.Kill(), kKilled);
    storms_.clear();
    holders_.clear();
    held_.clear();
  }

  // Reads the journal as the next daemon would.
  void ExpectAnEmptyJournal() {
    const absl::StatusOr<server::JournalReading> reading = ReadJournalOf(daemon_);
    ASSERT_TRUE(reading.ok()) << reading.status();
    EXPECT_EQ(reading->state.sessions().size(), 0u);
    EXPECT_EQ(reading->state.segments().size(), 0u);
    std::printf("figure: %llu records in the journal fold to nothing\n",
                static_cast<unsigned long long>(reading->records));
  }

  KeptDaemon daemon_{{}, "4GiB"};
  std::mt19937 random_{20261125};
  std::vector<LeaseClientProcess> storms_;
  std::optional<LeaseClientProcess> ipc_;
  std::vector<LeaseClientProcess> holders_;
  std::map<pid_t, std::vector<Place>> held_;
  Durations until_served_;
  Durations until_served_with_deaths_;
};

TEST_F(DaemonKillTest, NoByteAndNoLeaseIsLostHoweverOftenTheDaemonDies) {
  // The first daemon has restored nothing, so its descriptors are those that any daemon needs.
  ASSERT_TRUE(Eventually([&] { return NothingIsHeld(); }));
  const int keeper_fds = CountFds(daemon_.keeper_pid());
  const int daemon_fds = CountFds(daemon_.daemon_pid());
  Hold(KiB(40).value());
  Hold(MiB(3).value());
  FillUp();
  const int kills = Times("TENURE_DAEMON_KILLS", 20);
  int deaths_in_recovery = 0;
  for (int i = 0; i < kills && !HasFatalFailure(); ++i) {
    if (i % 5 == 0) ipc_ = Storm(/*vmm=*/false);
    const uint64_t in_recovery = random_() % 3 == 0 ? 1 + random_() % 2 : 0;
    KillDaemon(/*with_client=*/random_() % 4 == 0, in_recovery);
    if (HasFatalFailure()) return;
    deaths_in_recovery += static_cast<int>(in_recovery);
    ExpectAllIsWell();
    if (HasFatalFailure()) return;
    FillUp();
    if (i % 10 == 9) ExpectClientsAtWork();
  }
  KillAllClients();
  if (HasFatalFailure()) return;
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); }))
      << daemon_.GetStats().DebugString() << daemon_.ListSessions().DebugString();
  // Warm memory ends with the daemon.
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  EXPECT_TRUE(Eventually([&] { return NothingIsHeld(); }));
  EXPECT_TRUE(Eventually([&] { return CountFds(daemon_.keeper_pid()) <= keeper_fds; }))
      << CountFds(daemon_.keeper_pid()) << " descriptors at the keeper, not " << keeper_fds;
  EXPECT_TRUE(Eventually([&] { return CountFds(daemon_.daemon_pid()) <= daemon_fds; }))
      << CountFds(daemon_.daemon_pid()) << " descriptors at the daemon, not " << daemon_fds;
  ExpectAnEmptyJournal();
  std::printf("figure: %d deaths of a serving daemon, %d of one that did not serve yet\n", kills,
              deaths_in_recovery);
  until_served_.Print("SIGKILL to serving, with the keeper's pause of up to 200 ms");
  until_served_with_deaths_.Print("the same with one or two deaths before serving");
  EXPECT_EQ(daemon_.Stop(), 0);
}

}  // namespace
}  // namespace tenure::testing
