// The driver's list of processes on a device: the second half of the proof that a process can no
// longer write there.
#ifndef COMMON_CUDA_PROCESS_LIST_H_
#define COMMON_CUDA_PROCESS_LIST_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::cuda {

class Driver;
struct NvmlLibrary;

// The library with the process list that belongs to `driver`: the driver's own library if that
// exports it (the emulated one does), else NVIDIA's management library.
std::string ProcessListLibraryFor(const Driver& driver);

// The driver's list of compute processes on one device.
//
// A process is on it from the creation of its context until the kernel has closed the last of its
// open device files. If it forked a child that lives on, that is later than its own death. In that
// time a kernel of a killed process was seen to run on and to write, and its pid stayed on the list
// for exactly as long. So a process that is dead and not listed can write no more.
//
// Thread safety: thread-safe.
// Source: NVIDIA's nvml.h: nvmlDeviceGetComputeRunningProcesses_v3.
class ProcessList {
 public:
  // `path`: as for Driver::Load. `device_uuid`: "GPU-...".
  // Errors: NOT_FOUND: no such library or device. FAILED_PRECONDITION: not NVML, or too old.
  static absl::StatusOr<std::unique_ptr<ProcessList>> Open(absl::string_view path,
                                                           absl::string_view device_uuid);
  ~ProcessList();
  ProcessList(const ProcessList&) = delete;
  ProcessList& operator=(const ProcessList&) = delete;

  // UNAVAILABLE: the list could not be read now, or would prove nothing, because MPS runs.
  absl::StatusOr<std::vector<pid_t>> ComputeProcesses();

 private:
  ProcessList(std::unique_ptr<const NvmlLibrary> library, void* device);

  const std::unique_ptr<const NvmlLibrary> library_;
  void* const device_;
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_PROCESS_LIST_H_
