// One emulated device with its process list and fault injection, for tests of the daemon's core.
#ifndef TESTS_SUPPORT_SIMULATED_DEVICE_H_
#define TESTS_SUPPORT_SIMULATED_DEVICE_H_

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"

#include "common/check.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/emulated/control.h"
#include "common/cuda/process_list.h"

namespace tenure::testing {

template <typename T>
T Must(absl::StatusOr<T> value) {
  TENURE_CHECK(value.ok());
  return *std::move(value);
}

// REQUIRES: an EmulatedCard that was made before; it sets the folder and the size of the device.
class SimulatedDevice {
 public:
  SimulatedDevice() : driver_(Must(cuda::Driver::Load(Must(cuda::ResolveDriver("emulated"))))) {
    control_.emplace(Must(cuda::emulated::Control::Open(*driver_)));
    OpenAnew();
  }

  cuda::Device& device() { return *device_; }
  cuda::ProcessList& processes() { return *processes_; }
  const cuda::emulated::Control& control() const { return *control_; }

  // For use after a run that left memory in the driver which the daemon may not free.
  void OpenAnew() {
    processes_.reset();
    device_.reset();
    device_ = Must(cuda::Device::Open(*driver_, "0"));
    processes_ =
        Must(cuda::ProcessList::Open(cuda::ProcessListLibraryFor(*driver_), device_->uuid()));
  }

 private:
  std::unique_ptr<cuda::Driver> driver_;
  std::optional<cuda::emulated::Control> control_;
  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<cuda::ProcessList> processes_;
};

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_SIMULATED_DEVICE_H_
