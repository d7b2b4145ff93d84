// A device's context, current on a thread for one scope.
#ifndef COMMON_CUDA_SCOPED_CONTEXT_H_
#define COMMON_CUDA_SCOPED_CONTEXT_H_

#include "absl/status/status.h"

#include "common/cuda/driver.h"

namespace tenure::cuda {

// The constructor makes the context current on the calling thread; the destructor makes the former
// one current again.
//
// Every driver call on a device is made inside one of these. So this is the place where a call
// under a NoDriverCalls guard aborts a debug build.
//
// Borrows: the driver.
// Thread safety: thread-confined.
// Errors: status() is the answer of cuCtxPushCurrent. Unless it is OK, no call may follow.
class ScopedContext {
 public:
  ScopedContext(const Driver& driver, CUcontext context);
  ~ScopedContext();
  ScopedContext(const ScopedContext&) = delete;
  ScopedContext& operator=(const ScopedContext&) = delete;

  const absl::Status& status() const { return status_; }

 private:
  const Driver& driver_;
  const absl::Status status_;
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_SCOPED_CONTEXT_H_
