// A device heap without threads: every test does the maintenance itself.
#ifndef TESTS_SERVER_MEMORY_HEAP_FIXTURE_H_
#define TESTS_SERVER_MEMORY_HEAP_FIXTURE_H_

#include <cstdlib>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "server/memory/device_heap.h"
#include "server/memory/health.h"
#include "tests/support/emulated_card.h"

namespace tenure::server {

// One device for all tests of the program, on the driver that $TENURE_DRIVER names, by default the
// emulated one.
inline cuda::Device& TestDevice() {
  static testing::EmulatedCard card("1GiB");
  static const std::unique_ptr<cuda::Driver> driver = [] {
    const char* name = std::getenv("TENURE_DRIVER");
    const absl::StatusOr<std::string> path =
        cuda::ResolveDriver(name == nullptr ? "emulated" : name);
    TENURE_CHECK(path.ok());
    absl::StatusOr<std::unique_ptr<cuda::Driver>> loaded = cuda::Driver::Load(*path);
    TENURE_CHECK(loaded.ok());
    return *std::move(loaded);
  }();
  static const std::unique_ptr<cuda::Device> device = [] {
    absl::StatusOr<std::unique_ptr<cuda::Device>> opened = cuda::Device::Open(*driver, "0");
    TENURE_CHECK(opened.ok());
    return *std::move(opened);
  }();
  return *device;
}

class HeapTest : public ::testing::Test {
 protected:
  static constexpr Epoch kEpoch = 7;

  explicit HeapTest(DeviceHeap::Options heap = {kEpoch, MiB(0), MiB(128)})
      : heap_(device_, health_, heap) {}
  ~HeapTest() override { heap_.CheckInvariants(); }

  void Maintain() {
    while (heap_.MaintainOnce()) heap_.CheckInvariants();
  }
  // More than there is: the driver needs some for itself.
  Bytes WholeDevice() const { return *RoundUp(device_.total(), kRegionUnit); }

  cuda::Device& device_ = TestDevice();
  Health health_;
  DeviceHeap heap_;
};

}  // namespace tenure::server

#endif  // TESTS_SERVER_MEMORY_HEAP_FIXTURE_H_
