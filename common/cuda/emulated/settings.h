// The settings of the emulated devices, which come from the environment.
#ifndef COMMON_CUDA_EMULATED_SETTINGS_H_
#define COMMON_CUDA_EMULATED_SETTINGS_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/bytes.h"

namespace tenure::cuda::emulated {

//   TENURE_EMULATED_DIR      the folder of the devices; processes that name the same folder share
//                            them. Default: /dev/shm/tenure-emulated-UID, or the same in /tmp if
//                            /dev/shm cannot be written
//   TENURE_EMULATED_DEVICES  how many devices; default 1, at most 16
//   TENURE_EMULATED_MEMORY   the memory of each; default 8GiB. It applies when no process uses the
//                            device
//   TENURE_EMULATED_FAULTS   see control.h; @FILE: the first line of FILE, as it is when the
//   process
//                            starts, and no faults while there is no such file
//   TENURE_EMULATED_STRICT   1: a call whose effect NVIDIA leaves undefined aborts
struct Settings {
  std::string folder;
  int devices = 1;
  Bytes memory = GiB(8);
  std::string faults;
  bool strict = false;
};

// Errors: INVALID_ARGUMENT: a value is malformed or out of range.
absl::StatusOr<Settings> ReadSettings();

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_SETTINGS_H_
