// The deadline of a call.
#ifndef CLIENT_SESSION_DEADLINE_H_
#define CLIENT_SESSION_DEADLINE_H_

#include <algorithm>

#include "absl/time/time.h"

#include "common/clock.h"

namespace tenure {

// The time by which a whole call has to end, however many attempts it takes. It is measured on the
// boot clock, which cannot be set: a change of the wall clock neither ends nor prolongs a call.
//
// Thread safety: immutable value.
class Deadline {
 public:
  static Deadline After(absl::Duration span) { return Deadline(SystemClock().Now() + span); }
  static Deadline Never() { return Deadline(absl::InfiniteDuration()); }

  // Zero once it has passed.
  absl::Duration Left() const { return std::max(at_ - SystemClock().Now(), absl::ZeroDuration()); }
  bool Passed() const { return Left() == absl::ZeroDuration(); }

 private:
  explicit Deadline(BootTime at) : at_(at) {}

  BootTime at_;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_DEADLINE_H_
