// Faults of the emulated driver, for the tests of this room.
#ifndef TESTS_SERVER_MEMORY_EMULATED_CONTROL_H_
#define TESTS_SERVER_MEMORY_EMULATED_CONTROL_H_

#include <optional>

#include "common/cuda/emulated/control.h"
#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {

// Makes the driver of TestDevice fail and wait on demand; nullopt when that is a real one.
inline std::optional<cuda::emulated::Control> EmulatedControl() {
  absl::StatusOr<cuda::emulated::Control> control =
      cuda::emulated::Control::Open(TestDevice().driver());
  if (!control.ok()) return std::nullopt;
  return *control;
}

}  // namespace tenure::server

#endif  // TESTS_SERVER_MEMORY_EMULATED_CONTROL_H_
