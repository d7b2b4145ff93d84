#ifndef COMMON_CUDA_EMULATED_UNIQUE_FD_H_
#define COMMON_CUDA_EMULATED_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace tenure::cuda::emulated {

// A file descriptor that is closed with its owner; -1 is none.
class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  ~UniqueFd() { Reset(); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(std::exchange(other.fd_, -1));
    return *this;
  }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void Reset(int fd = -1) {
    const int old = std::exchange(fd_, fd);
    if (old >= 0) close(old);
  }

 private:
  int fd_;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_UNIQUE_FD_H_
