// Driver::Load: opens libcuda, fills the table of entry points and initialises the driver. A file
// of its own, because it reports failures through status.h, which needs the table.
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/cuda/driver.h"
#include "common/cuda/library.h"
#include "common/cuda/status.h"
#include "common/status_macros.h"

namespace tenure::cuda {
namespace {

// Two steps, so that cuda.h's macro names (cuMemAlloc is cuMemAlloc_v2) become text after they were
// expanded.
#define TENURE_CUDA_TEXT(symbol) TENURE_CUDA_TEXT_OF_EXPANDED(symbol)
#define TENURE_CUDA_TEXT_OF_EXPANDED(symbol) #symbol

std::string FormatVersion(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

absl::Status TooOld(absl::string_view path, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the CUDA driver '", path, "' ", what, "; tenure needs one for CUDA ",
      FormatVersion(Driver::kMinimumVersion), " or later: install a newer NVIDIA driver"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Driver>> Driver::Load(absl::string_view path) {
  TENURE_ASSIGN_OR_RETURN(
      void* const library,
      OpenLibrary(path, "install the NVIDIA driver, or use the emulated one: --driver emulated"));
  std::unique_ptr<Driver> driver(new Driver(path));
  TENURE_RETURN_IF_ERROR(driver->Fill(library));
  TENURE_RETURN_IF_ERROR(driver->Initialise());
  return driver;
}

absl::Status Driver::Fill(void* library) {
  // This is checked first, because it has another message: a file without cuInit is not an old
  // driver, but no driver.
  if (FindSymbol(library, "cuInit") == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "'", path_, "' is no CUDA driver: it exports no cuInit; name a libcuda.so.1 instead"));
  }
#define TENURE_CUDA_FILL(symbol)                                                              \
  symbol = reinterpret_cast<decltype(symbol)>(FindSymbol(library, TENURE_CUDA_TEXT(symbol))); \
  if (symbol == nullptr) return TooOld(path_, "exports no " TENURE_CUDA_TEXT(symbol));
  TENURE_CUDA_SYMBOLS(TENURE_CUDA_FILL)
#undef TENURE_CUDA_FILL
  emulated_ = FindSymbol(library, "tenureEmulatedDriver") != nullptr;
  return absl::OkStatus();
}

absl::Status Driver::Initialise() {
  CUresult result = cuDriverGetVersion(&version_);
  if (result != CUDA_SUCCESS) {
    return ToStatus(*this, result, "cuDriverGetVersion", "ask the driver for its version");
  }
  if (version_ < kMinimumVersion) {
    return TooOld(path_, absl::StrCat("is for CUDA ", FormatVersion(version_)));
  }
  return ToStatus(*this, cuInit(0), "cuInit", absl::StrCat("initialise the driver '", path_, "'"));
}

}  // namespace tenure::cuda
