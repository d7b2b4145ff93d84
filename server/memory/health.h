// Whether the daemon may serve.
#ifndef SERVER_MEMORY_HEALTH_H_
#define SERVER_MEMORY_HEALTH_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/timed_cond_var.h"

namespace tenure::server {

// The first failure that ends service. After a driver error other than out-of-memory the contents
// of the context are unknown. The daemon then stops granting at once and exits, and a supervisor
// starts it anew.
//
// Invariants: once a failure is set it never changes.
// Thread safety: thread-safe. Its lock is the last in every order: no other lock is taken under it,
// so Check() and Fail() may be called under any lock.
class Health {
 public:
  // OK while serving; afterwards UNAVAILABLE with the reason.
  absl::Status Check() const {
    absl::MutexLock lock(&mu_);
    return failure_;
  }

  // Ends service for good; only the first failure is kept.
  void Fail(const absl::Status& cause) {
    absl::MutexLock lock(&mu_);
    if (failure_.ok()) failure_ = absl::UnavailableError(cause.message());
    failed_.SignalAll();
  }

  // Waits until Fail was called, at most `timeout`; returns whether it was.
  bool WaitForFailure(absl::Duration timeout) const {
    absl::MutexLock lock(&mu_);
    const auto failed = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !failure_.ok(); };
    return failed_.AwaitFor(mu_, absl::Condition(&failed), timeout);
  }

 private:
  mutable absl::Mutex mu_;
  mutable TimedCondVar failed_;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_HEALTH_H_
