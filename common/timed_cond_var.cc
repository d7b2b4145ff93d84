#include "common/timed_cond_var.h"

#include <algorithm>
#include <chrono>

namespace tenure {
namespace {

// The mutex as the standard library expects one.
class Lockable {
 public:
  explicit Lockable(absl::Mutex& mu) : mu_(mu) {}
  // The analysis does not see that the wait locks again what it has unlocked.
  void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu_.Lock(); }
  void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu_.Unlock(); }

 private:
  absl::Mutex& mu_;
};

// A sum with the present time must not overflow. Nothing here waits for a year.
constexpr absl::Duration kLongestWait = absl::Hours(24 * 365);

}  // namespace

bool TimedCondVar::AwaitFor(absl::Mutex& mu, const absl::Condition& until, absl::Duration timeout) {
  if (until.Eval()) return true;
  if (timeout <= absl::ZeroDuration()) return false;
  Lockable lock(mu);
  const auto end =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(std::min(timeout, kLongestWait));
  return changed_.wait_until(lock, end, [&until] { return until.Eval(); });
}

}  // namespace tenure
