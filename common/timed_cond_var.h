// Waits with a time limit under an absl::Mutex, whatever happens to the wall clock.
#ifndef COMMON_TIMED_COND_VAR_H_
#define COMMON_TIMED_COND_VAR_H_

#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tenure {

// The condition variable for every wait with a time limit, in daemon and client. The timed waits of
// absl::Mutex and absl::CondVar are on the wall clock: when it is set back by an hour, they last an
// hour longer. A wait without a limit needs no clock and stays with absl::Mutex::Await.
//
// In use it differs from absl::Mutex::AwaitWithTimeout in one point: a thread that changes what a
// condition reads calls SignalAll, before or after it releases the mutex.
//
//   absl::MutexLock lock(&mu_);                        absl::MutexLock lock(&mu_);
//   changed_.AwaitFor(mu_, absl::Condition(            stopping_ = true;
//       this, &Worker::HasWork), pause);               changed_.SignalAll();
//
// All waits on one object are under the same mutex.
// Thread safety: thread-safe. It may be destroyed once no thread waits, and none is in SignalAll.
// Source: pthread_cond_clockwait on CLOCK_MONOTONIC, by std::condition_variable_any.
class TimedCondVar {
 public:
  TimedCondVar() = default;
  TimedCondVar(const TimedCondVar&) = delete;
  TimedCondVar& operator=(const TimedCondVar&) = delete;

  // Waits until `until` holds, at most `timeout`, and returns whether it holds. The mutex is
  // released meanwhile. An infinite timeout is a year; with zero or less it does not wait.
  bool AwaitFor(absl::Mutex& mu, const absl::Condition& until, absl::Duration timeout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // All waiting threads evaluate their conditions again.
  void SignalAll() { changed_.notify_all(); }

 private:
  std::condition_variable_any changed_;
};

}  // namespace tenure

#endif  // COMMON_TIMED_COND_VAR_H_
