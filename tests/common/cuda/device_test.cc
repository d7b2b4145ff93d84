#include "common/cuda/device.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "gtest/gtest.h"

#include "common/cuda/launch.h"
#include "common/cuda/no_driver_calls.h"
#include "common/cuda/nvrtc.h"
#include "common/cuda/scoped_context.h"
#include "gmock/gmock.h"
#include "tests/common/cuda/bench.h"

namespace tenure::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TestDriver;

std::unique_ptr<Device> OpenDevice(absl::string_view selector = "0") {
  return Device::Open(TestDriver(), selector).value();
}

TEST(IdentifyTest, AnOrdinalAndItsUuidNameTheSameDevice) {
  const DeviceIdentity by_ordinal = Identify(TestDriver(), "1").value();
  EXPECT_EQ(by_ordinal.ordinal, 1);
  EXPECT_THAT(by_ordinal.uuid, StartsWith("GPU-"));
  EXPECT_EQ(by_ordinal.uuid.size(), 40u);
  EXPECT_EQ(by_ordinal.total, testing::kCapacity);
  EXPECT_EQ(Identify(TestDriver(), by_ordinal.uuid).value().ordinal, 1);
  EXPECT_EQ(Identify(TestDriver(), absl::AsciiStrToUpper(by_ordinal.uuid)).value().ordinal, 1);
  EXPECT_EQ(Identify(TestDriver(), by_ordinal.uuid.substr(0, 20)).value().ordinal, 1);
}

TEST(IdentifyTest, UnknownDevicesAreNotFoundAndThoseThatAreThereAreListed) {
  const std::string first = Identify(TestDriver(), "0").value().uuid;
  const std::string second = Identify(TestDriver(), "1").value().uuid;
  for (const char* selector : {"2", "00", "99999999999999999999", "GPU-00000000-0000"}) {
    const absl::Status status = Identify(TestDriver(), selector).status();
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(selector), HasSubstr(first), HasSubstr(second)));
  }
}

TEST(IdentifyTest, WhatNamesNoDeviceOrSeveralIsInvalid) {
  for (const char* selector : {"", "-1", "first", "GPU-", "0x0", "1 "}) {
    const absl::Status status = Identify(TestDriver(), selector).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << selector << ": " << status;
  }
}

TEST(IdentifyTest, IdentifyingCostsNoDeviceMemory) {
  const std::unique_ptr<Device> observer = OpenDevice("0");
  const Bytes before = observer->GetMemoryInfo()->free;
  ASSERT_TRUE(Identify(TestDriver(), "0").ok());
  EXPECT_EQ(observer->GetMemoryInfo()->free, before);
}

TEST(DeviceTest, AnOpenDeviceCostsOneContextWhichGoesWithTheLastOwner) {
  std::unique_ptr<Device> first = OpenDevice("1");
  const MemoryInfo with_one = *first->GetMemoryInfo();
  EXPECT_EQ(with_one.total, testing::kCapacity);
  EXPECT_EQ(with_one.free, testing::kCapacity - testing::kContextCost);
  const std::unique_ptr<Device> second = OpenDevice("1");
  first.reset();
  EXPECT_EQ(second->GetMemoryInfo()->free, with_one.free);
}

TEST(DeviceTest, BytesTravelToTheDeviceOnItAndBack) {
  const std::unique_ptr<Device> device = OpenDevice();
  const DevicePointer first = device->Allocate(MiB(2)).value();
  const DevicePointer second = device->Allocate(MiB(2)).value();
  const std::string sent(1000, 'x');
  ASSERT_TRUE(device->CopyToDevice(first + 8, sent.data(), Bytes(sent.size())).ok());
  ASSERT_TRUE(device->CopyOnDevice(second + 16, first + 8, Bytes(sent.size())).ok());
  std::string received(sent.size(), '\0');
  ASSERT_TRUE(device->CopyToHost(received.data(), second + 16, Bytes(sent.size())).ok());
  EXPECT_EQ(received, sent);
  EXPECT_TRUE(device->Synchronize().ok());
  EXPECT_TRUE(device->Free(first).ok());
  EXPECT_TRUE(device->Free(second).ok());
}

TEST(DeviceTest, ClearingZeroesExactlyTheBytesNamed) {
  const std::unique_ptr<Device> device = OpenDevice();
  const Bytes size = MiB(4);
  const DevicePointer memory = device->Allocate(size).value();
  const std::string ones(size.value(), '\1');
  ASSERT_TRUE(device->CopyToDevice(memory, ones.data(), size).ok());
  const uint64_t from = 5000;
  const uint64_t length = 1'000'001;
  ASSERT_TRUE(device->Clear(memory + from, Bytes(length)).ok());
  std::string expected = ones;
  expected.replace(from, length, length, '\0');
  std::string received(size.value(), 'x');
  ASSERT_TRUE(device->CopyToHost(received.data(), memory, size).ok());
  EXPECT_TRUE(received == expected);
  EXPECT_TRUE(device->Free(memory).ok());
}

TEST(DeviceTest, WhatLiesOutsideALiveAllocationIsTheCallersMistake) {
  const std::unique_ptr<Device> device = OpenDevice();
  const DevicePointer memory = device->Allocate(MiB(2)).value();
  char byte = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(device->Clear(memory, MiB(2) + Bytes(1))));
  EXPECT_TRUE(
      absl::IsInvalidArgument(device->CopyToHost(&byte, memory + MiB(2).value(), Bytes(1))));
  EXPECT_TRUE(absl::IsInvalidArgument(device->Free(memory + 512)));
  ASSERT_TRUE(device->Free(memory).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyToDevice(memory, &byte, Bytes(1))));
  EXPECT_TRUE(absl::IsInvalidArgument(device->Free(memory)));
}

TEST(DeviceTest, ADeviceThatIsFullSaysSoWithTheSizeAndItsName) {
  const std::unique_ptr<Device> device = OpenDevice();
  const absl::Status status = device->Allocate(GiB(1)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("1 GiB"), HasSubstr(device->uuid())));
}

TEST(DeviceTest, ItsOwnExportCannotBeImported) {
  const std::unique_ptr<Device> device = OpenDevice();
  const DevicePointer memory = device->Allocate(MiB(2)).value();
  const IpcHandle handle = device->Export(memory).value();
  EXPECT_EQ(device->Export(memory + 4096).value(), handle);
  EXPECT_TRUE(absl::IsFailedPrecondition(device->Import(handle).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(device->CloseImport(memory)));
  EXPECT_TRUE(absl::IsInvalidArgument(device->Import(IpcHandle()).status()));
}

TEST(DeviceTest, ThreadsMayShareItAndKeepTheirOwnContext) {
  const std::unique_ptr<Device> device = OpenDevice("0");
  const std::unique_ptr<Device> other = OpenDevice("1");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const ScopedContext mine(TestDriver(), other->context());
      for (int round = 0; round < 50; ++round) {
        const DevicePointer memory = device->Allocate(MiB(2)).value();
        EXPECT_TRUE(device->Clear(memory, MiB(2)).ok());
        EXPECT_TRUE(device->Free(memory).ok());
      }
      CUcontext current = nullptr;
      EXPECT_EQ(TestDriver().cuCtxPopCurrent(&current), CUDA_SUCCESS);
      EXPECT_EQ(current, other->context());
      EXPECT_EQ(TestDriver().cuCtxPushCurrent(current), CUDA_SUCCESS);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(IpcHandleTest, OnlySixtyFourBytesAreAHandle) {
  const std::string bytes(64, 'h');
  EXPECT_EQ(IpcHandle::FromBytes(bytes).value().AsBytes(), bytes);
  EXPECT_TRUE(absl::IsInvalidArgument(IpcHandle::FromBytes(bytes.substr(1)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(IpcHandle::FromBytes("").status()));
}

TEST(NoDriverCallsTest, GuardsNestAndConcernTheirOwnThreadOnly) {
  EXPECT_FALSE(NoDriverCalls::Held());
  {
    const NoDriverCalls outer;
    { const NoDriverCalls inner; }
    EXPECT_TRUE(NoDriverCalls::Held());
    bool held_elsewhere = true;
    std::thread([&] { held_elsewhere = NoDriverCalls::Held(); }).join();
    EXPECT_FALSE(held_elsewhere);
  }
  EXPECT_FALSE(NoDriverCalls::Held());
}

TEST(NoDriverCallsTest, ADriverCallUnderAGuardAbortsADebugBuild) {
#ifdef NDEBUG
  GTEST_SKIP() << "debug checks are compiled out of this build";
#else
  const std::unique_ptr<Device> device = OpenDevice();
  EXPECT_DEATH(
      {
        const NoDriverCalls guard;
        static_cast<void>(device->GetMemoryInfo());
      },
      "NoDriverCalls");
#endif
}

TEST(LaunchTest, TheEmulatedDriverRunsNoKernels) {
  const std::unique_ptr<Device> device = OpenDevice();
  const absl::Status status =
      Kernel::Compile(TestDriver(), *device, "extern \"C\" __global__ void f() {}", "f").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("runs no kernels"));
}

TEST(NvrtcTest, SourceBecomesACubinAndItsMistakesAreReported) {
  const absl::StatusOr<std::string> cubin =
      CompileToCubin("extern \"C\" __global__ void f(int* p) { *p = 1; }", "sm_90");
  if (absl::IsNotFound(cubin.status())) GTEST_SKIP() << cubin.status().message();
  ASSERT_TRUE(cubin.ok()) << cubin.status();
  EXPECT_EQ(cubin->substr(1, 3), "ELF");
  const absl::Status refused =
      CompileToCubin("extern \"C\" __global__ void f() { nonsense; }", "sm_90").status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("nonsense"));
}

}  // namespace
}  // namespace tenure::cuda
