#include "common/cuda/launch.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <cuda.h>

#include "common/cuda/driver.h"
#include "common/cuda/library.h"
#include "common/cuda/nvrtc.h"
#include "common/cuda/scoped_context.h"
#include "common/cuda/status.h"
#include "common/status_macros.h"

#define TENURE_CUDA_LAUNCH_SYMBOLS(X) \
  X(cuModuleLoadData)                 \
  X(cuModuleUnload)                   \
  X(cuModuleGetFunction)              \
  X(cuLaunchKernel)

namespace tenure::cuda {

// The entry points that Driver leaves out. As there, either all are set or there is no table.
struct LaunchTable {
#define TENURE_CUDA_LAUNCH_MEMBER(symbol) decltype(&::symbol) symbol = nullptr;
  TENURE_CUDA_LAUNCH_SYMBOLS(TENURE_CUDA_LAUNCH_MEMBER)
#undef TENURE_CUDA_LAUNCH_MEMBER
};

namespace {

absl::StatusOr<std::unique_ptr<const LaunchTable>> LoadTable(const Driver& driver) {
  TENURE_ASSIGN_OR_RETURN(
      void* const library,
      OpenLibrary(driver.path(), "it was removed while in use; install it again"));
  auto table = std::make_unique<LaunchTable>();
// None of these four names is a macro in cuda.h.
#define TENURE_CUDA_LAUNCH_FILL(symbol)                                                          \
  table->symbol = reinterpret_cast<decltype(table->symbol)>(FindSymbol(library, #symbol));       \
  if (table->symbol == nullptr) {                                                                \
    return absl::FailedPreconditionError(                                                        \
        absl::StrCat("this driver runs no kernels: '", driver.path(), "' exports no " #symbol)); \
  }
  TENURE_CUDA_LAUNCH_SYMBOLS(TENURE_CUDA_LAUNCH_FILL)
#undef TENURE_CUDA_LAUNCH_FILL
  return table;
}

absl::StatusOr<std::string> ArchitectureOf(const Driver& driver, const Device& device) {
  int major = 0;
  int minor = 0;
  CUresult result = driver.cuDeviceGetAttribute(
      &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device.ordinal());
  if (result == CUDA_SUCCESS) {
    result = driver.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                                         device.ordinal());
  }
  if (result != CUDA_SUCCESS) {
    return ToStatus(driver, result, "cuDeviceGetAttribute",
                    absl::StrCat("read the architecture of ", device.uuid()));
  }
  return absl::StrCat("sm_", major, minor);
}

}  // namespace

absl::StatusOr<Kernel> Kernel::Compile(const Driver& driver, Device& device,
                                       absl::string_view source, absl::string_view function) {
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<const LaunchTable> table, LoadTable(driver));
  TENURE_ASSIGN_OR_RETURN(const std::string architecture, ArchitectureOf(driver, device));
  TENURE_ASSIGN_OR_RETURN(const std::string cubin, CompileToCubin(source, architecture));
  return Make(device, std::move(table), cubin.data(), function);
}

absl::StatusOr<Kernel> Kernel::Load(const Driver& driver, Device& device, const char* image,
                                    absl::string_view function) {
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<const LaunchTable> table, LoadTable(driver));
  return Make(device, std::move(table), image, function);
}

absl::StatusOr<Kernel> Kernel::Make(Device& device, std::unique_ptr<const LaunchTable> table,
                                    const void* image, absl::string_view function) {
  Kernel kernel(device, std::move(table));
  TENURE_RETURN_IF_ERROR(kernel.LoadModule(image, function));
  return kernel;
}

Kernel::Kernel(Device& device, std::unique_ptr<const LaunchTable> table)
    : device_(device), table_(std::move(table)) {}

Kernel::Kernel(Kernel&& other) noexcept
    : device_(other.device_),
      table_(std::move(other.table_)),
      module_(std::exchange(other.module_, nullptr)),
      function_(std::exchange(other.function_, nullptr)) {}

Kernel::~Kernel() {
  // Null after a move, or when the module could not be loaded.
  if (module_ == nullptr) return;
  const ScopedContext scope(device_.driver(), device_.context());
  if (scope.status().ok()) table_->cuModuleUnload(module_);
}

absl::Status Kernel::LoadModule(const void* image, absl::string_view function) {
  const ScopedContext scope(device_.driver(), device_.context());
  TENURE_RETURN_IF_ERROR(scope.status());
  // Names the call that `result` came from, for the error message.
  absl::string_view call = "cuModuleLoadData";
  CUresult result = table_->cuModuleLoadData(&module_, image);
  if (result == CUDA_SUCCESS) {
    call = "cuModuleGetFunction";
    result = table_->cuModuleGetFunction(&function_, module_, std::string(function).c_str());
  }
  return ToStatus(device_.driver(), result, call, absl::StrCat("load kernel ", function));
}

absl::Status Kernel::Launch(const Dimensions& grid, const Dimensions& block,
                            absl::Span<void* const> arguments) {
  const ScopedContext scope(device_.driver(), device_.context());
  TENURE_RETURN_IF_ERROR(scope.status());
  // A copy, because cuLaunchKernel takes a pointer to pointers that are not const.
  std::vector<void*> pointers(arguments.begin(), arguments.end());
  const CUresult result =
      table_->cuLaunchKernel(function_, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                             /*sharedMemBytes=*/0, /*hStream=*/nullptr, pointers.data(), nullptr);
  return ToStatus(device_.driver(), result, "cuLaunchKernel", "launch a kernel");
}

}  // namespace tenure::cuda
