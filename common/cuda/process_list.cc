#include "common/cuda/process_list.h"

#include <optional>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/cuda/driver.h"
#include "common/cuda/library.h"
#include "common/cuda/mps.h"
#include "common/cuda/nvml_api.h"
#include "common/status_macros.h"

namespace tenure::cuda {

// NVML as a table of entry points, like Driver.
struct NvmlLibrary {
#define TENURE_NVML_MEMBER(symbol) decltype(&::symbol) symbol = nullptr;
  TENURE_NVML_SYMBOLS(TENURE_NVML_MEMBER)
#undef TENURE_NVML_MEMBER
};

namespace {

// Room for the processes of a busy device; it is doubled as needed.
constexpr size_t kFirstRoom = 64;
// The most room that is tried. No device has so many contexts, so a longer list is an error of the
// library.
constexpr size_t kMostRoom = 65536;

absl::StatusCode CodeOfNvml(nvmlReturn_t result) {
  switch (result) {
    case kNvmlSuccess:
      return absl::StatusCode::kOk;
    case kNvmlNotFound:
    case kNvmlInvalidArgument:
      return absl::StatusCode::kNotFound;
    case kNvmlNoPermission:
      return absl::StatusCode::kPermissionDenied;
    case kNvmlUninitialized:
    case kNvmlDriverNotLoaded:
      return absl::StatusCode::kFailedPrecondition;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

absl::Status ToNvmlStatus(const NvmlLibrary& library, nvmlReturn_t result, absl::string_view call,
                          absl::string_view attempt) {
  if (result == kNvmlSuccess) return absl::OkStatus();
  const char* words = library.nvmlErrorString(result);
  return absl::Status(CodeOfNvml(result),
                      absl::StrCat("could not ", attempt, ": ", call, " answered ", result, " (",
                                   words != nullptr ? words : "unknown", ")"));
}

absl::StatusOr<std::unique_ptr<NvmlLibrary>> LoadNvml(absl::string_view path) {
  TENURE_ASSIGN_OR_RETURN(
      void* const file, OpenLibrary(path, "it comes with the NVIDIA driver, in the same version"));
  auto library = std::make_unique<NvmlLibrary>();
#define TENURE_NVML_FILL(symbol)                                                               \
  library->symbol = reinterpret_cast<decltype(library->symbol)>(FindSymbol(file, #symbol));    \
  if (library->symbol == nullptr) {                                                            \
    return absl::FailedPreconditionError(                                                      \
        absl::StrCat("'", path,                                                                \
                     "' exports no " #symbol ": it is no NVML, or too old a one; install the " \
                     "NVIDIA driver for CUDA 12 or later"));                                   \
  }
  TENURE_NVML_SYMBOLS(TENURE_NVML_FILL)
#undef TENURE_NVML_FILL
  return library;
}

}  // namespace

std::string ProcessListLibraryFor(const Driver& driver) {
  const absl::StatusOr<void*> file = OpenLibrary(driver.path(), "");
  const bool has_list = file.ok() && FindSymbol(*file, "nvmlInit_v2") != nullptr;
  return has_list ? driver.path() : "libnvidia-ml.so.1";
}

absl::StatusOr<std::unique_ptr<ProcessList>> ProcessList::Open(absl::string_view path,
                                                               absl::string_view device_uuid) {
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<NvmlLibrary> library, LoadNvml(path));
  const NvmlLibrary& nvml = *library;
  const nvmlReturn_t ready = nvml.nvmlInit_v2();
  if (ready != kNvmlSuccess) {
    return ToNvmlStatus(nvml, ready, "nvmlInit_v2", absl::StrCat("initialise '", path, "'"));
  }
  nvmlDevice_t device = nullptr;
  const nvmlReturn_t found =
      nvml.nvmlDeviceGetHandleByUUID(std::string(device_uuid).c_str(), &device);
  if (found != kNvmlSuccess) {
    // There is no ProcessList yet whose destructor would do this.
    nvml.nvmlShutdown();
    return ToNvmlStatus(nvml, found, "nvmlDeviceGetHandleByUUID",
                        absl::StrCat("find device ", device_uuid));
  }
  return absl::WrapUnique(new ProcessList(std::move(library), device));
}

ProcessList::ProcessList(std::unique_ptr<const NvmlLibrary> library, void* device)
    : library_(std::move(library)), device_(device) {}

ProcessList::~ProcessList() { library_->nvmlShutdown(); }

absl::StatusOr<std::vector<pid_t>> ProcessList::ComputeProcesses() {
  // This is checked in each call, because MPS may be started while the daemon runs.
  if (const std::optional<std::string> mps = FindMps()) {
    return absl::UnavailableError(absl::StrCat(
        "an MPS control daemon listens in ", *mps,
        ", and the list names its server instead of its clients; stop it with `echo quit | "
        "nvidia-cuda-mps-control`"));
  }
  std::vector<nvmlProcessInfo_t> infos(kFirstRoom);
  // Processes may start between two calls, so the room is doubled and not set to the length that
  // the last call named.
  for (;;) {
    auto count = static_cast<unsigned int>(infos.size());
    const nvmlReturn_t result = library_->nvmlDeviceGetComputeRunningProcesses_v3(
        static_cast<nvmlDevice_t>(device_), &count, infos.data());
    if (result == kNvmlInsufficientSize && infos.size() < kMostRoom) {
      infos.resize(infos.size() * 2);
      continue;
    }
    if (result != kNvmlSuccess) {
      return ToNvmlStatus(*library_, result, "nvmlDeviceGetComputeRunningProcesses",
                          "list the device's processes");
    }
    std::vector<pid_t> pids;
    for (unsigned int i = 0; i < count; ++i) pids.push_back(static_cast<pid_t>(infos[i].pid));
    return pids;
  }
}

}  // namespace tenure::cuda
