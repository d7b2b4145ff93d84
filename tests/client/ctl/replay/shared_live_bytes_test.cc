#include "client/ctl/replay/shared_live_bytes.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace tenure::ctl {
namespace {

TEST(SharedLiveBytesTest, PeakIsTheMostThatAllWorkersHeldAtOnce) {
  absl::StatusOr<SharedLiveBytes> live = SharedLiveBytes::Create();
  ASSERT_TRUE(live.ok()) << live.status();
  live->Add(0, Bytes(10));
  live->Add(1, Bytes(5));
  live->Subtract(0, Bytes(10));
  live->Add(1, Bytes(7));
  EXPECT_EQ(live->peak(), Bytes(15));
}

TEST(SharedLiveBytesTest, CheckIsRequestedWhenTheSumHasGrownBy1In64) {
  absl::StatusOr<SharedLiveBytes> live = SharedLiveBytes::Create();
  ASSERT_TRUE(live.ok());
  EXPECT_TRUE(live->Add(0, Bytes(6400)));
  EXPECT_FALSE(live->Add(1, Bytes(50)));
  EXPECT_TRUE(live->Add(1, Bytes(51)));
  live->Subtract(0, Bytes(6400));
  EXPECT_FALSE(live->Add(0, Bytes(6400)));
}

TEST(SharedLiveBytesTest, DeadWorkerHoldsNothing) {
  absl::StatusOr<SharedLiveBytes> live = SharedLiveBytes::Create();
  ASSERT_TRUE(live.ok());
  live->Add(0, Bytes(10));
  live->Retire(0);
  live->Add(1, Bytes(9));
  EXPECT_EQ(live->peak(), Bytes(10));
}

TEST(SharedLiveBytesTest, ProcessesShareThem) {
  absl::StatusOr<SharedLiveBytes> live = SharedLiveBytes::Create();
  ASSERT_TRUE(live.ok());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    absl::StatusOr<SharedLiveBytes> inherited = SharedLiveBytes::Open(dup(live->fd()));
    if (!inherited.ok()) _exit(1);
    inherited->Add(1, Bytes(100));
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(live->peak(), Bytes(100));
}

TEST(SharedLiveBytesTest, BadDescriptorIsRefused) { EXPECT_FALSE(SharedLiveBytes::Open(-1).ok()); }

}  // namespace
}  // namespace tenure::ctl
