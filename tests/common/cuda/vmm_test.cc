#include "common/cuda/vmm.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/cuda/device.h"
#include "common/cuda/emulated/control.h"
#include "common/unique_fd.h"
#include "gmock/gmock.h"
#include "tests/common/cuda/bench.h"

namespace tenure::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TestDriver;

constexpr Bytes kRegion = MiB(4);

// This process's mappings of device memory, and ranges of kRegion that are only reserved. Other
// mappings are made by sanitizers and the C library and may change.
int DeviceMappings() {
  std::ifstream file("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(file, line);) {
    // Two addresses with a '-' between them, then the permissions.
    char* rest = nullptr;
    const uint64_t from = std::strtoull(line.c_str(), &rest, 16);
    const uint64_t to = std::strtoull(rest + 1, nullptr, 16);
    const bool reserved = line.find(" ---") != std::string::npos && to - from == kRegion.value();
    const bool memory = line.find("/memory-") != std::string::npos;
    count += reserved || memory ? 1 : 0;
  }
  return count;
}

class VmmTest : public ::testing::Test {
 protected:
  ~VmmTest() override { control_.Clear(); }

  Bytes Free() { return device_->GetMemoryInfo()->free; }

  char FirstByte(const VmmMemory& memory) {
    char byte = 0;
    EXPECT_TRUE(device_->CopyToHost(&byte, memory.base, Bytes(1)).ok());
    return byte;
  }

  absl::Status SetFirstByte(const VmmMemory& memory, char byte) {
    return device_->CopyToDevice(memory.base, &byte, Bytes(1));
  }

  const std::unique_ptr<Device> device_ = Device::Open(TestDriver(), "0").value();
  const emulated::Control control_ = emulated::Control::Open(TestDriver()).value();
};

TEST_F(VmmTest, FreshMemoryIsZeroAndHoldsWhatIsCopiedAndCleared) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  std::string bytes(kRegion.value(), 'x');
  ASSERT_TRUE(device_->CopyToHost(bytes.data(), memory.base, kRegion).ok());
  EXPECT_EQ(bytes, std::string(kRegion.value(), '\0'));
  const std::string ones(kRegion.value(), '\1');
  ASSERT_TRUE(device_->CopyToDevice(memory.base, ones.data(), kRegion).ok());
  ASSERT_TRUE(device_->Clear(memory.base + 5000, Bytes(1'000'000)).ok());
  ASSERT_TRUE(device_->CopyToHost(bytes.data(), memory.base, kRegion).ok());
  std::string expected = ones;
  expected.replace(5000, 1'000'000, 1'000'000, '\0');
  EXPECT_TRUE(bytes == expected);
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
}

TEST_F(VmmTest, MemoryCountsFromItsCreationToItsRelease) {
  const Bytes before = Free();
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  EXPECT_EQ(memory.size, kRegion);
  EXPECT_EQ(Free(), before - kRegion);
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
  EXPECT_EQ(Free(), before);
  char byte = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(device_->CopyToHost(&byte, memory.base, Bytes(1))));
}

TEST_F(VmmTest, ADescriptorKeepsTheMemoryAndBringsItBack) {
  const Bytes before = Free();
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  ASSERT_TRUE(SetFirstByte(memory, 'a').ok());
  UniqueFd fd = device_->ExportVmm(memory).value();
  EXPECT_NE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_TRUE(device_->ReleaseVmm(memory).ok());
  EXPECT_EQ(Free(), before - kRegion);
  UniqueFd copy(dup(fd.get()));
  fd.Reset();
  const VmmMemory imported = device_->ImportVmm(copy.get(), kRegion, VmmAccess::kReadWrite).value();
  copy.Reset();
  EXPECT_EQ(FirstByte(imported), 'a');
  EXPECT_TRUE(SetFirstByte(imported, 'b').ok());
  EXPECT_EQ(Free(), before - kRegion);
  ASSERT_TRUE(device_->ReleaseVmm(imported).ok());
  EXPECT_EQ(Free(), before);
}

TEST_F(VmmTest, AnImportIsTheSameMemoryElsewhereAndCannotBeExported) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  const UniqueFd fd = device_->ExportVmm(memory).value();
  const VmmMemory imported = device_->ImportVmm(fd.get(), kRegion, VmmAccess::kReadWrite).value();
  EXPECT_NE(imported.base, memory.base);
  ASSERT_TRUE(SetFirstByte(imported, 'c').ok());
  EXPECT_EQ(FirstByte(memory), 'c');
  EXPECT_TRUE(absl::IsInvalidArgument(device_->ExportVmm(imported).status()));
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
  EXPECT_EQ(FirstByte(imported), 'c');
  EXPECT_TRUE(device_->ReleaseVmm(imported).ok());
}

TEST_F(VmmTest, AReadOnlyImportIsReadAndNotWritten) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  ASSERT_TRUE(SetFirstByte(memory, 'd').ok());
  const UniqueFd fd = device_->ExportVmm(memory).value();
  const VmmMemory imported = device_->ImportVmm(fd.get(), kRegion, VmmAccess::kRead).value();
  EXPECT_TRUE(absl::IsInvalidArgument(SetFirstByte(imported, 'e')));
  EXPECT_TRUE(absl::IsInvalidArgument(device_->Clear(imported.base, imported.size)));
  EXPECT_EQ(FirstByte(imported), 'd');
  EXPECT_TRUE(device_->ReleaseVmm(imported).ok());
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
}

TEST_F(VmmTest, AWrongSizeIsRefusedAndLeavesNothingBehind) {
  const Bytes before = Free();
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  UniqueFd fd = device_->ExportVmm(memory).value();
  ASSERT_TRUE(device_->ReleaseVmm(memory).ok());
  for (const Bytes size : {kRegion + MiB(2), kRegion - MiB(2), Bytes(1), Bytes(0)}) {
    const absl::Status status = device_->ImportVmm(fd.get(), size, VmmAccess::kReadWrite).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  }
  fd.Reset();
  EXPECT_EQ(Free(), before);
}

TEST_F(VmmTest, WhatIsNoDescriptorOfMemoryIsRefused) {
  const UniqueFd other_file(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {-1, 1'000'000, other_file.get()}) {
    const absl::Status status = device_->ImportVmm(fd, kRegion, VmmAccess::kReadWrite).status();
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
  }
}

// Otherwise a process that may read the card's folder could map memory without its descriptor.
TEST_F(VmmTest, AReadOnlyFileOfTheEmulatedCardIsNoDescriptor) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  const UniqueFd descriptor = device_->ExportVmm(memory).value();
  const std::string path = absl::StrCat("/proc/self/fd/", descriptor.get());
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  const absl::Status status = device_->ImportVmm(file.get(), kRegion, VmmAccess::kRead).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
}

TEST_F(VmmTest, WhatCannotBeCreatedSaysWhy) {
  const absl::Status full = device_->CreateVmm(GiB(1)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()), AllOf(HasSubstr("1 GiB"), HasSubstr(device_->uuid())));
  for (const Bytes size : {Bytes(0), MiB(1), MiB(3)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(device_->CreateVmm(size).status())) << size.value();
  }
}

TEST_F(VmmTest, AnyFailingCallUndoesTheWhole) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  const UniqueFd fd = device_->ExportVmm(memory).value();
  const Bytes before = Free();
  const int mappings = DeviceMappings();
  for (const char* symbol : {"cuMemCreate", "cuMemImportFromShareableHandle", "cuMemAddressReserve",
                             "cuMemMap", "cuMemSetAccess"}) {
    const uint64_t calls = control_.Calls(symbol);
    control_.FailFrom(symbol, 1, CUDA_ERROR_OUT_OF_MEMORY);
    const absl::StatusOr<VmmMemory> created = device_->CreateVmm(kRegion);
    const absl::StatusOr<VmmMemory> imported =
        device_->ImportVmm(fd.get(), kRegion, VmmAccess::kRead);
    control_.Clear();
    EXPECT_GT(control_.Calls(symbol), calls) << symbol;
    for (const absl::StatusOr<VmmMemory>& made : {created, imported}) {
      const absl::Status outcome = made.ok() ? device_->ReleaseVmm(*made) : made.status();
      EXPECT_EQ(absl::IsResourceExhausted(outcome), !made.ok()) << symbol << ": " << outcome;
    }
    EXPECT_FALSE(created.ok() && imported.ok()) << symbol;
    EXPECT_EQ(Free(), before) << symbol;
    EXPECT_EQ(DeviceMappings(), mappings) << symbol;
  }
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
}

TEST_F(VmmTest, AFailedExportLeavesNoDescriptor) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  const Bytes before = Free();
  control_.Fail("cuMemExportToShareableHandle", 1, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_TRUE(absl::IsResourceExhausted(device_->ExportVmm(memory).status()));
  EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
  EXPECT_EQ(Free(), before + kRegion);
}

// The error is returned, and the handle still exists.
TEST_F(VmmTest, AFailingReleaseSaysSo) {
  const VmmMemory memory = device_->CreateVmm(kRegion).value();
  control_.Fail("cuMemRelease", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
  EXPECT_TRUE(absl::IsInternal(device_->ReleaseVmm(memory)));
  EXPECT_EQ(TestDriver().cuMemRelease(memory.handle), CUDA_SUCCESS);
}

TEST_F(VmmTest, ThreadsMayShareTheDevice) {
  const Bytes before = Free();
  std::vector<std::thread> threads;
  for (char name = 'a'; name < 'e'; ++name) {
    threads.emplace_back([&, name] {
      for (int round = 0; round < 25; ++round) {
        const VmmMemory memory = device_->CreateVmm(kRegion).value();
        const UniqueFd fd = device_->ExportVmm(memory).value();
        const VmmMemory imported =
            device_->ImportVmm(fd.get(), kRegion, VmmAccess::kReadWrite).value();
        EXPECT_TRUE(SetFirstByte(imported, name).ok());
        EXPECT_EQ(FirstByte(memory), name);
        EXPECT_TRUE(device_->ReleaseVmm(memory).ok());
        EXPECT_TRUE(device_->ReleaseVmm(imported).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Free(), before);
}

}  // namespace
}  // namespace tenure::cuda
