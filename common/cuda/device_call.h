// One driver call on a device, in its context and with its error as a status.
#ifndef COMMON_CUDA_DEVICE_CALL_H_
#define COMMON_CUDA_DEVICE_CALL_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include <cuda.h>

#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/scoped_context.h"
#include "common/cuda/status.h"
#include "common/status_macros.h"

namespace tenure::cuda {

// Makes the device's context current, runs `call`, and returns its result as a status. `attempt`
// says in words what was tried; it is called only when the call fails.
template <typename Call, typename Attempt>
absl::Status CallOn(const Device& device, absl::string_view name, const Attempt& attempt,
                    const Call& call) {
  const ScopedContext scope(device.driver(), device.context());
  TENURE_RETURN_IF_ERROR(scope.status());
  const CUresult result = call();
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  return ToStatus(device.driver(), result, name, absl::StrCat(attempt(), " on ", device.uuid()));
}

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_DEVICE_CALL_H_
