// A clock that a test advances by hand.
#ifndef TESTS_SUPPORT_MANUAL_CLOCK_H_
#define TESTS_SUPPORT_MANUAL_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"

namespace tenure::testing {

// Thread safety: thread-safe.
class ManualClock final : public Clock {
 public:
  BootTime Now() const override {
    absl::MutexLock lock(&mu_);
    return now_;
  }
  void Advance(absl::Duration by) {
    absl::MutexLock lock(&mu_);
    now_ += by;
  }

 private:
  mutable absl::Mutex mu_;
  BootTime now_ ABSL_GUARDED_BY(mu_) = absl::Hours(1);
};

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_MANUAL_CLOCK_H_
