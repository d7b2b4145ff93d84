#include "common/cuda/emulated/shared_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>

namespace tenure::cuda::emulated {

UniqueFd OpenShared(int folder, const char* name) {
  UniqueFd file(openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  struct stat status = {};
  if (file && fstat(file.get(), &status) == 0 && (status.st_mode & 0777) != 0666) {
    // Only the process that made the file may change its mode, and that one does: the umask applied
    // to the mode in openat. For any other user the call fails, which does no harm.
    static_cast<void>(fchmod(file.get(), 0666));
  }
  return file;
}

CUresult SystemError(const std::string& what) {
  std::fprintf(stderr, "emulated CUDA driver: %s: %s\n", what.c_str(), std::strerror(errno));
  return CUDA_ERROR_OPERATING_SYSTEM;
}

}  // namespace tenure::cuda::emulated
