// Kernels: how examples and tests on a GPU compile and launch them.
#ifndef COMMON_CUDA_LAUNCH_H_
#define COMMON_CUDA_LAUNCH_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "common/cuda/device.h"

struct CUmod_st;
struct CUfunc_st;

namespace tenure::cuda {

struct LaunchTable;

// The size of a grid in blocks, or of a block in threads.
struct Dimensions {
  unsigned int x = 1;
  unsigned int y = 1;
  unsigned int z = 1;
};

// One compiled kernel, loaded on one device. The daemon launches no kernels, so the entry points
// for it are not in Driver, and this is a library of its own.
//
// Borrows: the device, which must outlive it.
// Owns: the loaded module.
// Thread safety: thread-safe, except for its destruction.
class Kernel {
 public:
  // `source` is CUDA C++, in which `function` is a kernel declared extern "C".
  // Errors: FAILED_PRECONDITION: the driver runs no kernels, which is so for the emulated one.
  // Otherwise as CompileToCubin.
  static absl::StatusOr<Kernel> Compile(const Driver& driver, Device& device,
                                        absl::string_view source, absl::string_view function);
  // `image` is PTX or a cubin. PTX is compiled by the driver, which needs no toolkit, and a PTX of
  // an old version runs on every newer GPU.
  // Errors: FAILED_PRECONDITION as above; INVALID_ARGUMENT: the driver refuses the image.
  static absl::StatusOr<Kernel> Load(const Driver& driver, Device& device, const char* image,
                                     absl::string_view function);
  ~Kernel();
  Kernel(Kernel&& other) noexcept;
  Kernel& operator=(Kernel&&) = delete;

  // Queues it on the legacy default stream; Device::Synchronize() waits for it. `arguments` point
  // to the values, in the order of the kernel's parameters.
  absl::Status Launch(const Dimensions& grid, const Dimensions& block,
                      absl::Span<void* const> arguments);

 private:
  Kernel(Device& device, std::unique_ptr<const LaunchTable> table);

  static absl::StatusOr<Kernel> Make(Device& device, std::unique_ptr<const LaunchTable> table,
                                     const void* image, absl::string_view function);
  absl::Status LoadModule(const void* image, absl::string_view function);

  Device& device_;
  std::unique_ptr<const LaunchTable> table_;
  CUmod_st* module_ = nullptr;
  CUfunc_st* function_ = nullptr;
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_LAUNCH_H_
