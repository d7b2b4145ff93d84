#include "common/timed_cond_var.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include <time.h>

namespace {
// How far this process reads the wall clock ahead of the kernel. A time limit on the wall clock
// then ends that much later, as it does when the clock is set back after the limit was computed.
std::atomic<time_t> wall_clock_ahead_s = 0;
}  // namespace

// In place of the C library's: Abseil and the standard library read the clocks by it.
extern "C" __attribute__((visibility("default"))) int clock_gettime(clockid_t id,
                                                                    timespec* now) noexcept {
  const long failed = syscall(SYS_clock_gettime, id, now);
  if (failed == 0 && id == CLOCK_REALTIME) now->tv_sec += wall_clock_ahead_s;
  return static_cast<int>(failed);
}

namespace tenure {
namespace {

constexpr absl::Duration kLong = absl::Minutes(1);

TEST(TimedCondVar, ALimitEndsInTimeAlthoughTheWallClockIsSetBack) {
  absl::Mutex mu;
  TimedCondVar changed;
  const bool never = false;
  wall_clock_ahead_s = 3600;
  // Otherwise the wait would end in time on the wall clock as well, and nothing would be shown.
  ASSERT_GT(absl::Now(), absl::FromTimeT(time(nullptr)) + absl::Minutes(50));
  {
    absl::MutexLock lock(&mu);
    EXPECT_FALSE(changed.AwaitFor(mu, absl::Condition(&never), absl::Milliseconds(1)));
  }
  wall_clock_ahead_s = 0;
}

TEST(TimedCondVar, ASignalEndsTheWaitOfEveryThreadWhoseConditionHolds) {
  absl::Mutex mu;
  TimedCondVar changed;
  bool ready = false;
  int ended = 0;
  const auto wait = [&] {
    absl::MutexLock lock(&mu);
    if (changed.AwaitFor(mu, absl::Condition(&ready), kLong)) ++ended;
  };
  std::thread first(wait);
  std::thread second(wait);
  {
    absl::MutexLock lock(&mu);
    ready = true;
    changed.SignalAll();
  }
  first.join();
  second.join();
  absl::MutexLock lock(&mu);
  EXPECT_EQ(ended, 2);
}

TEST(TimedCondVar, NeitherAPastLimitNorAnInfiniteOneWaitsForAConditionThatHolds) {
  absl::Mutex mu;
  TimedCondVar changed;
  const bool holds = true;
  const bool never = false;
  absl::MutexLock lock(&mu);
  EXPECT_TRUE(changed.AwaitFor(mu, absl::Condition(&holds), absl::InfiniteDuration()));
  EXPECT_TRUE(changed.AwaitFor(mu, absl::Condition(&holds), -absl::InfiniteDuration()));
  EXPECT_FALSE(changed.AwaitFor(mu, absl::Condition(&never), -absl::InfiniteDuration()));
}

}  // namespace
}  // namespace tenure
