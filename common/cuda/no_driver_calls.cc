#include "common/cuda/no_driver_calls.h"

#include "common/check.h"

namespace tenure::cuda {
namespace {

thread_local int guards_held = 0;

}  // namespace

NoDriverCalls::NoDriverCalls() { ++guards_held; }

NoDriverCalls::~NoDriverCalls() {
  TENURE_DCHECK(guards_held > 0);
  --guards_held;
}

bool NoDriverCalls::Held() { return guards_held > 0; }

}  // namespace tenure::cuda
