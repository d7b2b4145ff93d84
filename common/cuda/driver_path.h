// Finds the library of the driver from the name that a flag or a daemon gives.
#ifndef COMMON_CUDA_DRIVER_PATH_H_
#define COMMON_CUDA_DRIVER_PATH_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::cuda {

// "cuda" is libcuda.so.1 wherever the dynamic linker finds it. "emulated" is
// libtenure_emulated_cuda.so beside the running executable, in ../lib/tenure from there, beside the
// library that holds this code (a Python process runs this code from libtenure.so) or in tenure/
// from there, or in lib/tenure below /usr/local or /usr. Anything with a
// '/' is itself.
// Errors: INVALID_ARGUMENT: none of these. NOT_FOUND: no emulated driver in those places, which the
// message lists.
absl::StatusOr<std::string> ResolveDriver(absl::string_view name);

// The same for a client: it must load the driver that its daemon loaded, so the daemon tells it
// "cuda" or "emulated", and nothing else. The environment variable TENURE_DRIVER, where set,
// overrides what was told.
absl::StatusOr<std::string> ResolveClientDriver(absl::string_view told);

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_DRIVER_PATH_H_
