#ifndef COMMON_CUDA_SCOPED_CONTEXT_H_
#define COMMON_CUDA_SCOPED_CONTEXT_H_

#include "absl/status/status.h"

#include "common/cuda/driver.h"

namespace tenure::cuda {

// A device's context made current on the calling thread, and the former one again afterwards.
//
// Every driver call on a device stands inside one, so this is where a call under a NoDriverCalls
// guard aborts a debug build.
//
// Borrows: the driver.
// Thread safety: thread-confined.
// Errors: status(): whatever cuCtxPushCurrent answered; without OK no call may follow.
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
