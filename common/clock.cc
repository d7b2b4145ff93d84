#include "common/clock.h"

#include <time.h>

#include "common/check.h"

namespace tenure {

BootTime SystemClock::Now() const {
  timespec now = {};
  TENURE_CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
  return absl::DurationFromTimespec(now);
}

}  // namespace tenure
