// Locks under which nobody may wait for the driver.
#ifndef COMMON_CUDA_NO_DRIVER_CALLS_H_
#define COMMON_CUDA_NO_DRIVER_CALLS_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tenure::cuda {

// While one of these lives, a driver call on the same thread is a bug and aborts a debug build. Put
// it beside a lock under which nobody may wait for the driver: an allocation can take 250 ms, a
// free 33 ms.
//
// Thread safety: thread-confined; guards of one thread nest.
class NoDriverCalls {
 public:
  NoDriverCalls();
  ~NoDriverCalls();
  NoDriverCalls(const NoDriverCalls&) = delete;
  NoDriverCalls& operator=(const NoDriverCalls&) = delete;

  // Whether the calling thread holds one.
  static bool Held();
};

// An absl::MutexLock for a mutex under which a driver call is a bug: every lock that promises so in
// its comment is taken by this.
//
// Thread safety: thread-confined.
class ABSL_SCOPED_LOCKABLE NoDriverCallsLock {
 public:
  explicit NoDriverCallsLock(absl::Mutex* mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : lock_(mu) {}
  ~NoDriverCallsLock() ABSL_UNLOCK_FUNCTION() = default;
  NoDriverCallsLock(const NoDriverCallsLock&) = delete;
  NoDriverCallsLock& operator=(const NoDriverCallsLock&) = delete;

 private:
  absl::MutexLock lock_;
  NoDriverCalls no_driver_calls_;
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_NO_DRIVER_CALLS_H_
