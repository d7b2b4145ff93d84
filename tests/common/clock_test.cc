#include "common/clock.h"

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include <time.h>

namespace tenure {
namespace {

TEST(SystemClock, NeverGoesBack) {
  const SystemClock clock;
  BootTime last = clock.Now();
  for (int i = 0; i < 10000; ++i) {
    const BootTime now = clock.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(SystemClock, CountsFromBootIncludingSuspend) {
  const SystemClock clock;
  timespec before = {};
  timespec after = {};
  ASSERT_EQ(clock_gettime(CLOCK_BOOTTIME, &before), 0);
  const BootTime now = clock.Now();
  ASSERT_EQ(clock_gettime(CLOCK_BOOTTIME, &after), 0);
  EXPECT_GE(now, absl::DurationFromTimespec(before));
  EXPECT_LE(now, absl::DurationFromTimespec(after));
}

}  // namespace
}  // namespace tenure
