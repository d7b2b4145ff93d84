// Files that all processes with an emulated device open.
#ifndef COMMON_CUDA_EMULATED_SHARED_FILE_H_
#define COMMON_CUDA_EMULATED_SHARED_FILE_H_

#include <string>

#include <cuda.h>

#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// Opens a file in the folder `folder` for reading and writing, and makes it if it is missing. Every
// user may open it, whatever the umask of the process that made it. Empty on failure; see errno.
UniqueFd OpenShared(int folder, const char* name);

// Prints `what`, which failed, and errno to stderr. Returns CUDA_ERROR_OPERATING_SYSTEM.
CUresult SystemError(const std::string& what);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_SHARED_FILE_H_
