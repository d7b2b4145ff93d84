// The clock seam: one of the two places where tests put something of their own (the other is the
// driver table).
#ifndef COMMON_CLOCK_H_
#define COMMON_CLOCK_H_

#include "absl/time/time.h"

namespace tenure {

// A moment on the host's boot-time clock, which runs on through suspend and is never set.
using BootTime = absl::Duration;

// Reads time. Leases are judged on it, so it is monotonic and counts the time the host slept.
// Thread safety: thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual BootTime Now() const = 0;
};

// CLOCK_BOOTTIME.
// Source: clock_gettime(2).
class SystemClock final : public Clock {
 public:
  BootTime Now() const override;
};

}  // namespace tenure

#endif  // COMMON_CLOCK_H_
