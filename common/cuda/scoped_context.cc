#include "common/cuda/scoped_context.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/cuda/status.h"

namespace tenure::cuda {
namespace {

absl::Status Push(const Driver& driver, CUcontext context) {
  TENURE_DCHECK(!NoDriverCalls::Held());
  return ToStatus(driver, driver.cuCtxPushCurrent(context), "cuCtxPushCurrent",
                  "make the device's context current");
}

}  // namespace

ScopedContext::ScopedContext(const Driver& driver, CUcontext context)
    : driver_(driver), status_(Push(driver, context)) {}

ScopedContext::~ScopedContext() {
  if (!status_.ok()) return;
  CUcontext popped = nullptr;
  driver_.cuCtxPopCurrent(&popped);
}

}  // namespace tenure::cuda
