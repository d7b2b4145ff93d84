// The CUDA driver as a table of entry points, opened at run time.
#ifndef COMMON_CUDA_DRIVER_H_
#define COMMON_CUDA_DRIVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <cuda.h>

#include "common/cuda/symbols.h"

namespace tenure::cuda {

// The driver as a table of entry points: `driver.cuMemAlloc(&pointer, size)` calls what the loaded
// library exports.
//
// Invariants: 1. every entry point is set, else there is no Driver; 2. cuInit(0) has succeeded.
// Owns: nothing. The library stays loaded until the process ends: libcuda runs threads and exit
// handlers of its own, so taking its code away is not safe.
// Thread safety: immutable after construction.
class Driver {
 public:
  // CUDA 12.0. An older driver is refused at once, and not by the first call that it lacks.
  static constexpr int kMinimumVersion = 12000;

  // Opens a library (a path, or a name that the dynamic linker searches for) and initialises it.
  // Errors: NOT_FOUND: there is no such file, or no GPU. FAILED_PRECONDITION: the file is no CUDA
  // driver, or an older one than kMinimumVersion; the message says what to install.
  static absl::StatusOr<std::unique_ptr<Driver>> Load(absl::string_view path);

  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

#define TENURE_CUDA_MEMBER(symbol) decltype(&::symbol) symbol = nullptr;
  TENURE_CUDA_SYMBOLS(TENURE_CUDA_MEMBER)
#undef TENURE_CUDA_MEMBER

  // The path that Load was given.
  const std::string& path() const { return path_; }
  // As CUDA writes it: 13000 is CUDA 13.0.
  int version() const { return version_; }
  // Whether this is common/cuda/emulated. For reports only; behaviour must not depend on it.
  bool emulated() const { return emulated_; }

 private:
  explicit Driver(absl::string_view path) : path_(path) {}

  absl::Status Fill(void* library);
  absl::Status Initialise();

  std::string path_;
  int version_ = 0;
  bool emulated_ = false;
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_DRIVER_H_
