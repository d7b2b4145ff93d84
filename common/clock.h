// The clock by which leases and limits are measured.
#ifndef COMMON_CLOCK_H_
#define COMMON_CLOCK_H_

#include "absl/time/time.h"

namespace tenure {

// A time on the host's boot-time clock, which is never set and also counts while the host sleeps.
using BootTime = absl::Duration;

// Reads the time. It is one of the two places where tests put an implementation of their own; the
// other is the driver table. Leases expire by it, so it is monotonic and counts the time in which
// the host slept.
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
