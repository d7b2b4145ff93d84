// Compiles CUDA C++ with NVIDIA's run-time compiler.
#ifndef COMMON_CUDA_NVRTC_H_
#define COMMON_CUDA_NVRTC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::cuda {

// Compiles CUDA C++ to a cubin for one architecture ("sm_90"). The compiler is a library that is
// opened at run time: the one that TENURE_NVRTC names, else libnvrtc.so.13 or .12.
// Thread safety: thread-safe.
// Errors: NOT_FOUND: no compiler is installed. FAILED_PRECONDITION: the library is no compiler.
// INVALID_ARGUMENT: it refused the source or the architecture; the message contains its log.
absl::StatusOr<std::string> CompileToCubin(absl::string_view source,
                                           absl::string_view architecture);

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_NVRTC_H_
