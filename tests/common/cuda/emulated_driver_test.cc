// The behaviour of the emulated driver on which tests rely, beside the contract that it shares with
// the real one.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include <stdlib.h>

#include "common/cuda/device.h"
#include "common/cuda/emulated/control.h"
#include "common/unique_fd.h"
#include "gmock/gmock.h"
#include "tests/common/cuda/bench.h"
#include "tests/driver_contract/peer.h"

namespace tenure::cuda {
namespace {

using testing::DriverPath;
using ::testing::IsEmpty;
using testing::Peer;
using ::testing::SizeIs;
using testing::TestDriver;

// Sets an environment variable for the peers started while it lives.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    const char* former = getenv(name);
    if (former != nullptr) former_ = former;
    setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() {
    if (former_) {
      setenv(name_, former_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* const name_;
  std::optional<std::string> former_;
};

// The files of device 0's memory.
std::vector<std::string> MemoryFiles() {
  std::vector<std::string> paths;
  for (const auto& file :
       std::filesystem::directory_iterator(testing::CardFolder() + "/device-0")) {
    if (absl::StartsWith(file.path().filename().string(), "memory-")) paths.push_back(file.path());
  }
  return paths;
}

class FaultTest : public ::testing::Test {
 protected:
  ~FaultTest() override { control_.Clear(); }

  absl::StatusCode Allocate() { return device_->Allocate(MiB(2)).status().code(); }

  const std::unique_ptr<Device> device_ = Device::Open(TestDriver(), "0").value();
  const emulated::Control control_ = emulated::Control::Open(TestDriver()).value();
};

TEST_F(FaultTest, OnlyTheCallThatWasNamedFails) {
  control_.Fail("cuMemAlloc_v2", 2, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Allocate(), absl::StatusCode::kOk);
  EXPECT_EQ(Allocate(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Allocate(), absl::StatusCode::kOk);
}

TEST_F(FaultTest, APersistentFaultLastsUntilItIsCleared) {
  control_.FailFrom("cuMemAlloc_v2", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(Allocate(), absl::StatusCode::kInternal);
  EXPECT_EQ(Allocate(), absl::StatusCode::kInternal);
  control_.Clear();
  EXPECT_EQ(Allocate(), absl::StatusCode::kOk);
}

TEST_F(FaultTest, AFailedAllocationTakesNoMemory) {
  const Bytes before = device_->GetMemoryInfo()->free;
  control_.Fail("cuMemAlloc_v2", 1, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Allocate(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(device_->GetMemoryInfo()->free, before);
}

TEST_F(FaultTest, CallsAreCounted) {
  const uint64_t before = control_.Calls("cuMemAlloc_v2");
  control_.Fail("cuMemAlloc_v2", 1, CUDA_ERROR_OUT_OF_MEMORY);
  Allocate();
  Allocate();
  EXPECT_EQ(control_.Calls("cuMemAlloc_v2"), before + 2);
}

TEST_F(FaultTest, ADelayedCallTakesLongerAndDoesNotHoldUpOthers) {
  const absl::Duration delay = absl::Seconds(1);
  control_.Delay("cuMemAlloc_v2", static_cast<uint64_t>(absl::ToInt64Microseconds(delay)));
  const uint64_t before = control_.Calls("cuMemAlloc_v2");
  const absl::Time start = absl::Now();
  absl::Duration taken;
  std::thread slow([&] {
    Allocate();
    taken = absl::Now() - start;
  });
  while (control_.Calls("cuMemAlloc_v2") == before) std::this_thread::yield();
  // Answered while the allocation waits.
  EXPECT_TRUE(device_->GetMemoryInfo().ok());
  const absl::Duration others = absl::Now() - start;
  slow.join();
  EXPECT_GE(taken, delay);
  EXPECT_LT(others, taken);
}

TEST_F(FaultTest, TheEnvironmentArmsFaultsInOtherProcesses) {
  const ScopedVariable faults("TENURE_EMULATED_FAULTS",
                              "cuMemAlloc_v2:2=2, cuMemFree_v2:1+=700,cuMemGetInfo_v2:delay=1");
  Peer peer(DriverPath());
  const std::string memory = peer.Allocate(4096);
  EXPECT_EQ(peer.Ask("allocate 4096").result, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(peer.Ask("allocate 4096").result, CUDA_SUCCESS);
  EXPECT_EQ(peer.Ask("free " + memory).result, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_EQ(peer.Ask("free " + memory).result, CUDA_ERROR_ILLEGAL_ADDRESS);
}

TEST(EmulatedDriverTest, CallsOutOfOrderAreRefused) {
  const Driver& driver = TestDriver();
  size_t free = 0;
  size_t total = 0;
  EXPECT_EQ(driver.cuMemGetInfo(&free, &total), CUDA_ERROR_INVALID_CONTEXT);
  const std::unique_ptr<Device> device = Device::Open(driver, "0").value();
  EXPECT_EQ(driver.cuMemGetInfo(&free, &total), CUDA_ERROR_INVALID_CONTEXT);
  ASSERT_EQ(driver.cuCtxSetCurrent(device->context()), CUDA_SUCCESS);
  EXPECT_EQ(driver.cuMemGetInfo(&free, &total), CUDA_SUCCESS);
  EXPECT_EQ(driver.cuStreamQuery(nullptr), CUDA_SUCCESS);
  ASSERT_EQ(driver.cuCtxSetCurrent(nullptr), CUDA_SUCCESS);
  EXPECT_EQ(driver.cuCtxPopCurrent(nullptr), CUDA_ERROR_INVALID_CONTEXT);
}

// Waits until a peer is at a random place in its work.
void WaitForSomeInstant(std::minstd_rand& random) {
  // There is no condition to wait for: the random time is the purpose.
  absl::SleepFor(absl::Microseconds(random() % 3000));
}

TEST(EmulatedDriverTest, AProcessKilledAtAnyInstantLeavesTheCardAsItWas) {
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "0").value();
  const Bytes before = device->GetMemoryInfo()->free;
  std::minstd_rand random(20261123);
  for (int round = 0; round < 100; ++round) {
    Peer peer(DriverPath());
    peer.Tell("churn " + std::to_string(round));
    WaitForSomeInstant(random);
    peer.Kill();
    ASSERT_EQ(device->GetMemoryInfo()->free, before) << "after round " << round;
    ASSERT_THAT(MemoryFiles(), IsEmpty()) << "after round " << round;
  }
}

TEST(EmulatedDriverTest, AProcessKilledAmongOthersDoesNotHoldThemUp) {
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "0").value();
  const Bytes before = device->GetMemoryInfo()->free;
  std::minstd_rand random(20261124);
  for (int round = 0; round < 10; ++round) {
    Peer first(DriverPath());
    Peer second(DriverPath());
    first.Tell("churn " + std::to_string(round));
    second.Tell("churn " + std::to_string(round + 1000));
    WaitForSomeInstant(random);
    first.Kill();
    EXPECT_TRUE(device->GetMemoryInfo().ok());
    WaitForSomeInstant(random);
    second.Kill();
    ASSERT_EQ(device->GetMemoryInfo()->free, before) << "after round " << round;
  }
}

TEST(EmulatedDriverTest, AProcessKilledAtAnyInstantLeavesNoDescribedMemoryEither) {
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "0").value();
  const Bytes before = device->GetMemoryInfo()->free;
  std::minstd_rand random(20261125);
  for (int round = 0; round < 100; ++round) {
    Peer peer(DriverPath());
    peer.Tell("churn-descriptors " + std::to_string(round));
    WaitForSomeInstant(random);
    peer.Kill();
    ASSERT_EQ(device->GetMemoryInfo()->free, before) << "after round " << round;
    ASSERT_THAT(MemoryFiles(), IsEmpty()) << "after round " << round;
  }
}

TEST(EmulatedDriverTest, AnotherUserCannotImportWhatItFindsInTheFolder) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can start a process of another user";
  constexpr uid_t kNobody = 65534;
  Peer stranger(DriverPath(), kNobody);
  if (!stranger.failure().empty()) GTEST_SKIP() << "as another user: " << stranger.failure();
  Peer creator(DriverPath());
  const std::string memory = creator.Create(MiB(2).value());
  const UniqueFd fd = creator.ExportDescriptor(memory);
  ASSERT_THAT(MemoryFiles(), SizeIs(1));
  stranger.Get("open-descriptor " + MemoryFiles()[0]);
  EXPECT_EQ(stranger.Ask("import " + std::to_string(MiB(2).value())).result, CUDA_ERROR_UNKNOWN);
}

// The sweep frees the memory of dead processes, of every user. It must find that a process still
// holds a descriptor of the memory, also when the sweeping process is of another user.
TEST(EmulatedDriverTest, AnotherUsersSweepLeavesDescribedMemoryAlone) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can start a process of another user";
  constexpr uid_t kNobody = 65534;
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "0").value();
  const Bytes before = device->GetMemoryInfo()->free;
  UniqueFd fd;
  {
    Peer creator(DriverPath());
    fd = creator.ExportDescriptor(creator.Create(MiB(2).value()));
    creator.Kill();
  }
  for (const size_t files : {size_t{1}, size_t{0}}) {
    Peer stranger(DriverPath(), kNobody);
    if (!stranger.failure().empty()) GTEST_SKIP() << "as another user: " << stranger.failure();
    stranger.Exit();
    EXPECT_THAT(MemoryFiles(), SizeIs(files));
    fd.Reset();
  }
  EXPECT_EQ(device->GetMemoryInfo()->free, before);
}

TEST(EmulatedDriverTest, AKilledProcessIsClearedUpByTheNextCaller) {
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "0").value();
  Peer peer(DriverPath());
  peer.Allocate(MiB(2).value());
  peer.Allocate(4096);
  peer.Kill();
  EXPECT_THAT(MemoryFiles(), SizeIs(2));
  ASSERT_TRUE(device->GetMemoryInfo().ok());
  EXPECT_THAT(MemoryFiles(), IsEmpty());
}

TEST(EmulatedDriverTest, AnExitingProcessClearsUpItself) {
  Peer peer(DriverPath());
  peer.Allocate(MiB(2).value());
  peer.Allocate(4096);
  EXPECT_THAT(MemoryFiles(), SizeIs(2));
  peer.Exit();
  EXPECT_THAT(MemoryFiles(), IsEmpty());
}

TEST(EmulatedDriverTest, ClearedMemoryCostsTheHostNothing) {
  const std::unique_ptr<Device> device = Device::Open(TestDriver(), "0").value();
  const Bytes size = MiB(900);
  const DevicePointer memory = device->Allocate(size).value();
  const std::string ones(MiB(8).value(), '\1');
  ASSERT_TRUE(device->CopyToDevice(memory + 1000, ones.data(), Bytes(ones.size())).ok());
  ASSERT_TRUE(device->Clear(memory, size).ok());
  ASSERT_THAT(MemoryFiles(), SizeIs(1));
  struct stat status = {};
  ASSERT_EQ(stat(MemoryFiles()[0].c_str(), &status), 0);
  EXPECT_EQ(status.st_blocks, 0);
  EXPECT_TRUE(device->Free(memory).ok());
}

TEST(EmulatedDriverTest, AnIdleCardTakesItsCapacityFromTheNextProcess) {
  const std::string too_much = "allocate " + std::to_string(MiB(128).value());
  const ScopedVariable folder("TENURE_EMULATED_DIR", testing::CardFolder() + "/other");
  const ScopedVariable memory("TENURE_EMULATED_MEMORY", "64MiB");
  Peer small(DriverPath());
  EXPECT_EQ(small.Ask(too_much).result, CUDA_ERROR_OUT_OF_MEMORY);
  const ScopedVariable more("TENURE_EMULATED_MEMORY", "256MiB");
  Peer latecomer(DriverPath());
  EXPECT_EQ(latecomer.Ask(too_much).result, CUDA_ERROR_OUT_OF_MEMORY);
  small.Kill();
  latecomer.Kill();
  Peer next(DriverPath());
  EXPECT_EQ(next.Ask(too_much).result, CUDA_SUCCESS);
}

TEST(EmulatedDriverTest, StrictModeAbortsWhereNvidiaPromisesNothing) {
  Peer importer(DriverPath());
  const ScopedVariable strict("TENURE_EMULATED_STRICT", "1");
  Peer exporter(DriverPath());
  const std::string memory = exporter.Allocate(MiB(2).value());
  const std::string mapping = importer.Open(exporter.Export(memory));
  exporter.Tell("free " + memory);
  EXPECT_EQ(exporter.WaitForSignal(), SIGABRT);
}

}  // namespace
}  // namespace tenure::cuda
