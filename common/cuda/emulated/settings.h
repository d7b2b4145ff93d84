#ifndef COMMON_CUDA_EMULATED_SETTINGS_H_
#define COMMON_CUDA_EMULATED_SETTINGS_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/bytes.h"

namespace tenure::cuda::emulated {

// What the environment says about the emulated devices.
//
//   TENURE_EMULATED_DIR      the folder that holds them; processes that name the same one share the
//                            devices. Default: /dev/shm/tenure-emulated-UID, in /tmp without
//                            /dev/shm
//   TENURE_EMULATED_DEVICES  how many; default 1, at most 16
//   TENURE_EMULATED_MEMORY   of each; default 8GiB. Counts while nobody uses the device
//   TENURE_EMULATED_FAULTS   see control.h
//   TENURE_EMULATED_STRICT   1: what NVIDIA calls undefined aborts
struct Settings {
  std::string folder;
  int devices = 1;
  Bytes memory = GiB(8);
  std::string faults;
  bool strict = false;
};

// INVALID_ARGUMENT: a value that is none of its kind.
absl::StatusOr<Settings> ReadSettings();

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_SETTINGS_H_
