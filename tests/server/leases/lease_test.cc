// The table of lease states and events, row by row.

#include "server/leases/lease.h"

#include <set>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/manual_clock.h"

namespace tenure::server {
namespace {

using S = LeaseState;
using E = LeaseEvent;

template <typename Visit>
void ForEachPair(Visit visit) {
  for (size_t state = 0; state < kLeaseStates; ++state) {
    for (size_t event = 0; event < kLeaseEvents; ++event) {
      visit(static_cast<S>(state), static_cast<E>(event));
    }
  }
}

bool HoldsMemory(S state) { return state == S::kActive || state == S::kSuspended; }
bool IsOver(S state) { return state == S::kScrubbed || state == S::kEnded; }

TEST(LeaseTableTest, TimeAloneTakesNothing) {
  for (const E event : {E::kOverdue, E::kStopped, E::kHung}) {
    for (const S state : {S::kActive, S::kSuspended}) {
      const std::optional<S> next = NextLeaseState(state, event);
      EXPECT_EQ(next.value_or(S::kSuspended), S::kSuspended)
          << NameOf(state) << " " << NameOf(event);
    }
  }
}

TEST(LeaseTableTest, TheDeadDoNotComeBack) {
  ForEachPair([](S state, E event) {
    const std::optional<S> next = NextLeaseState(state, event);
    if (next && !HoldsMemory(state)) {
      EXPECT_FALSE(HoldsMemory(*next)) << NameOf(state) << " " << NameOf(event);
    }
  });
}

TEST(LeaseTableTest, NothingHappensAfterTheEnd) {
  ForEachPair([](S state, E event) {
    if (IsOver(state)) {
      EXPECT_FALSE(NextLeaseState(state, event)) << NameOf(state) << " " << NameOf(event);
    }
  });
}

TEST(LeaseTableTest, QuarantineIsLeftByProofOrToTheDriverOnly) {
  ForEachPair([](S state, E event) {
    const std::optional<S> next = NextLeaseState(state, event);
    if (!next || state != S::kQuarantined || *next == S::kQuarantined) return;
    EXPECT_TRUE((event == E::kProven && *next == S::kFenced) ||
                (event == E::kUnprovable && *next == S::kEnded))
        << NameOf(event);
  });
}

TEST(LeaseTableTest, ADeathIsTakenNoticeOfInEveryStateInWhichAProcessLives) {
  for (const S state : {S::kActive, S::kSuspended}) {
    EXPECT_EQ(NextLeaseState(state, E::kExited), S::kOrphaned);
  }
}

TEST(LeaseTableTest, StoppedHungForkedExecedAndDeadAreDifferent) {
  std::set<std::pair<S, E>> ends;
  for (const E event : {E::kStopped, E::kHung, E::kExeced, E::kExited}) {
    ends.emplace(*NextLeaseState(S::kSuspended, event), event);
  }
  EXPECT_EQ(ends, (std::set<std::pair<S, E>>{{S::kSuspended, E::kStopped},
                                             {S::kSuspended, E::kHung},
                                             {S::kEnded, E::kExeced},
                                             {S::kOrphaned, E::kExited}}));
  EXPECT_EQ(NextLeaseState(S::kQuarantined, E::kForked), S::kQuarantined);
}

TEST(LeaseTableTest, EveryStateIsReachedAndEveryStateButTheLastIsLeft) {
  std::set<S> reached = {S::kActive};
  std::set<S> left;
  ForEachPair([&](S state, E event) {
    const std::optional<S> next = NextLeaseState(state, event);
    if (!next || *next == state) return;
    reached.insert(*next);
    left.insert(state);
  });
  EXPECT_EQ(reached.size(), kLeaseStates);
  EXPECT_EQ(left.size(), kLeaseStates - 2);
}

TEST(LeaseTest, ALeaseKnowsWhenItEnteredEachStateAndWhy) {
  testing::ManualClock clock;
  const BootTime start = clock.Now();
  Lease lease(Peer::Imagined(UniqueFd(), ProcessKey{1, 1}, 1000), "client", clock);
  clock.Advance(absl::Seconds(11));
  EXPECT_TRUE(lease.On(E::kOverdue));
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(lease.On(E::kStopped));
  EXPECT_EQ(lease.state(), S::kSuspended);
  EXPECT_EQ(lease.cause(), E::kStopped);
  EXPECT_EQ(lease.entered(S::kSuspended), start + absl::Seconds(11)) << "not entered again";
  EXPECT_FALSE(lease.On(E::kProven));
  EXPECT_EQ(lease.cause(), E::kStopped) << "an event that does not apply changes nothing";
}

}  // namespace
}  // namespace tenure::server
