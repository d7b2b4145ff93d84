#include "client/ctl/replay/live_totals.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace tenure::ctl {
namespace {

TEST(LiveTotals, PeakIsTheMostThatAllWorkersHeldAtOnce) {
  absl::StatusOr<LiveTotals> totals = LiveTotals::Create();
  ASSERT_TRUE(totals.ok()) << totals.status();
  totals->Add(0, Bytes(10));
  totals->Add(1, Bytes(5));
  totals->Subtract(0, Bytes(10));
  totals->Add(1, Bytes(7));
  EXPECT_EQ(totals->peak(), Bytes(15));
}

TEST(LiveTotals, LookIsCalledForWhereverTheSumHasGrownByALittle) {
  absl::StatusOr<LiveTotals> totals = LiveTotals::Create();
  ASSERT_TRUE(totals.ok());
  EXPECT_TRUE(totals->Add(0, Bytes(6400)));
  EXPECT_FALSE(totals->Add(1, Bytes(50)));
  EXPECT_TRUE(totals->Add(1, Bytes(51)));
  totals->Subtract(0, Bytes(6400));
  EXPECT_FALSE(totals->Add(0, Bytes(6400)));
}

TEST(LiveTotals, DeadWorkerHoldsNothing) {
  absl::StatusOr<LiveTotals> totals = LiveTotals::Create();
  ASSERT_TRUE(totals.ok());
  totals->Add(0, Bytes(10));
  totals->Retire(0);
  totals->Add(1, Bytes(9));
  EXPECT_EQ(totals->peak(), Bytes(10));
}

TEST(LiveTotals, ProcessesShareThem) {
  absl::StatusOr<LiveTotals> totals = LiveTotals::Create();
  ASSERT_TRUE(totals.ok());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    absl::StatusOr<LiveTotals> inherited = LiveTotals::Open(dup(totals->fd()));
    if (!inherited.ok()) _exit(1);
    inherited->Add(1, Bytes(100));
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(totals->peak(), Bytes(100));
}

TEST(LiveTotals, WhatIsNoneIsRefused) { EXPECT_FALSE(LiveTotals::Open(-1).ok()); }

}  // namespace
}  // namespace tenure::ctl
