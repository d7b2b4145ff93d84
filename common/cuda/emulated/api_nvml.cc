// Entry points: the part of NVML that lists compute processes.
#include <algorithm>
#include <vector>

#include "common/cuda/emulated/process.h"
#include "common/cuda/nvml_api.h"

namespace emulated = tenure::cuda::emulated;
using emulated::Devices;
using emulated::Entry;

namespace {

// NVML's value for an instance on a GPU that is not divided.
constexpr unsigned int kNoInstance = 0xFFFFFFFF;

// Runs an entry point of NVML: body(Devices&).
template <typename Body>
nvmlReturn_t RunNvml(Entry entry, const Body& body) {
  emulated::Process& process = emulated::Process::Instance();
  if (process.IsForkedChild() || process.IsShutDown()) return kNvmlUninitialized;
  const std::optional<int> fault = process.faults().OnCall(entry);
  return fault ? *fault : process.With(body);
}

// Runs an entry point that needs nvmlInit: body(Devices&).
template <typename Body>
nvmlReturn_t RunAttached(Entry entry, const Body& body) {
  return RunNvml(entry, [&](Devices& devices) {
    return devices.attached() ? body(devices) : kNvmlUninitialized;
  });
}

}  // namespace

extern "C" {

nvmlReturn_t nvmlInit_v2() {
  return RunNvml(Entry::nvmlInit_v2, [](Devices& devices) {
    emulated::Process::Instance().Claim();
    const CUresult attached = devices.Attach(emulated::Process::Instance().faults());
    return attached == CUDA_SUCCESS ? kNvmlSuccess : kNvmlDriverNotLoaded;
  });
}

nvmlReturn_t nvmlShutdown() {
  return RunAttached(Entry::nvmlShutdown, [](Devices&) { return kNvmlSuccess; });
}

const char* nvmlErrorString(nvmlReturn_t result) {
  switch (result) {
    case kNvmlSuccess:
      return "Success";
    case kNvmlUninitialized:
      return "Uninitialized";
    case kNvmlInvalidArgument:
      return "Invalid Argument";
    case kNvmlNotFound:
      return "Not Found";
    case kNvmlInsufficientSize:
      return "Insufficient Size";
    case kNvmlDriverNotLoaded:
      return "Driver Not Loaded";
    default:
      return "Unknown Error";
  }
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) {
  return RunAttached(Entry::nvmlDeviceGetHandleByUUID, [&](Devices& devices) {
    if (uuid == nullptr || device == nullptr) return kNvmlInvalidArgument;
    for (const auto& candidate : devices.all()) {
      if (candidate->uuid_text != uuid) continue;
      // NVML's own name for the same object.
      *device = reinterpret_cast<nvmlDevice_t>(candidate.get());
      return kNvmlSuccess;
    }
    return kNvmlNotFound;
  });
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                     nvmlProcessInfo_t* infos) {
  return RunAttached(
      Entry::nvmlDeviceGetComputeRunningProcesses_v3, [&](Devices& devices) -> nvmlReturn_t {
        CUctx_st* const named = reinterpret_cast<CUctx_st*>(device);
        const auto& all = devices.all();
        const bool known = std::any_of(all.begin(), all.end(), [named](const auto& candidate) {
          return candidate.get() == named;
        });
        if (!known || count == nullptr) return kNvmlInvalidArgument;
        std::vector<emulated::CardProcess> processes = named->card->Processes();
        for (const pid_t pid : emulated::Process::Instance().faults().Pretended()) {
          processes.push_back(emulated::CardProcess{pid, 0});
        }
        const size_t room = *count;
        *count = static_cast<unsigned int>(processes.size());
        if (processes.size() > room) return kNvmlInsufficientSize;
        for (size_t i = 0; i < processes.size(); ++i) {
          infos[i] = nvmlProcessInfo_t{static_cast<unsigned int>(processes[i].pid),
                                       processes[i].used, kNoInstance, kNoInstance};
        }
        return kNvmlSuccess;
      });
}

}  // extern "C"
