// Locks under which a driver call is a bug, and aborts a debug build.
#ifndef COMMON_CUDA_NO_DRIVER_CALLS_H_
#define COMMON_CUDA_NO_DRIVER_CALLS_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tenure::cuda {

// While an object of this class lives, a driver call on the same thread aborts a debug build. It
// stands beside a lock that other clients' calls wait for: an allocation can take 250 ms, a free
// 33 ms.
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

// An absl::MutexLock for a mutex under which a driver call is a bug. Every mutex whose comment says
// that no driver call is made under it is locked with this class.
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
