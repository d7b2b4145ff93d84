// The driver's errors as absl::Status.
#ifndef COMMON_CUDA_STATUS_H_
#define COMMON_CUDA_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include <cuda.h>

#include "common/cuda/driver.h"

namespace tenure::cuda {

// Sorts the driver's errors by the person or program that can act on them. This is the only switch
// over CUresult.
absl::StatusCode CodeOf(CUresult result);

// The answer of `call` as a status; OK for CUDA_SUCCESS. `attempt` says in words what was tried and
// with which values, never with a pointer or a handle: "allocate 2 MiB on GPU-...".
absl::Status ToStatus(const Driver& driver, CUresult result, absl::string_view call,
                      absl::string_view attempt);

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_STATUS_H_
