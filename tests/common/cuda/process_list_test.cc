#include "common/cuda/process_list.h"

#include <unistd.h>

#include <memory>
#include <vector>

#include "gtest/gtest.h"

#include "common/cuda/device.h"
#include "gmock/gmock.h"
#include "tests/common/cuda/bench.h"
#include "tests/driver_contract/peer.h"

namespace tenure::cuda {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using testing::TestDriver;

std::unique_ptr<ProcessList> OpenList(absl::string_view selector) {
  return ProcessList::Open(ProcessListLibraryFor(TestDriver()),
                           Identify(TestDriver(), selector).value().uuid)
      .value();
}

TEST(ProcessListTest, TheEmulatedDriverBringsItsOwnList) {
  EXPECT_EQ(ProcessListLibraryFor(TestDriver()), TestDriver().path());
}

TEST(ProcessListTest, WhatCannotBeOpenedIsSaid) {
  const std::string uuid = Identify(TestDriver(), "0").value().uuid;
  const absl::Status missing = ProcessList::Open("/nonexistent/libnvidia-ml.so.1", uuid).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  const absl::Status no_nvml = ProcessList::Open("libm.so.6", uuid).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(no_nvml)) << no_nvml;
  EXPECT_THAT(std::string(no_nvml.message()), HasSubstr("no NVML"));
  const absl::Status no_device =
      ProcessList::Open(TestDriver().path(), "GPU-00000000-0000-0000-0000-000000000000").status();
  EXPECT_TRUE(absl::IsNotFound(no_device)) << no_device;
}

TEST(ProcessListTest, AProcessStandsOnTheListOfTheDevicesItHasAContextOn) {
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "1").value();
  EXPECT_THAT(OpenList("1")->ComputeProcesses().value(), Contains(getpid()));
  EXPECT_THAT(OpenList("0")->ComputeProcesses().value(), Not(Contains(getpid())));
}

TEST(ProcessListTest, AListLongerThanItsFirstBufferIsComplete) {
  std::vector<std::unique_ptr<testing::Peer>> peers;
  std::vector<pid_t> pids;
  for (int i = 0; i < 70; ++i) {
    peers.push_back(std::make_unique<testing::Peer>(testing::DriverPath()));
    pids.push_back(peers.back()->pid());
  }
  EXPECT_THAT(OpenList("0")->ComputeProcesses().value(), IsSupersetOf(pids));
}

}  // namespace
}  // namespace tenure::cuda
