// Claims about memory of cuMemCreate that processes share by file descriptors: which of them can
// open it, and what keeps it.
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"

#include "tests/driver_contract/contract.h"
#include "tests/driver_contract/descriptor_passing.h"

namespace tenure::testing {
namespace {

constexpr uint64_t kRegion = MiB(64).value();
// The bytes of a region that a test compares.
constexpr uint64_t kSample = MiB(2).value();
constexpr uid_t kNobody = 65534;

class VmmSharingContract : public DriverContract {
 protected:
  // A process that never touches the driver.
  Peer& Holder(int descriptor) {
    EXPECT_EQ(holder_.AskWith(descriptor, "hold").result, CUDA_SUCCESS);
    return holder_;
  }

 private:
  Peer holder_ = Peer(path(), 0, /*with_context=*/false);
};

TEST_F(VmmSharingContract, WhatOneProcessWritesTheOtherReads) {
  Peer creator(path());
  Peer importer(path());
  const std::string memory = creator.Create(kRegion);
  const std::string mapping = importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
  creator.Fill(memory, kRegion, 17);
  EXPECT_TRUE(importer.Holds(mapping, kRegion, 17));
  importer.Fill(mapping, kRegion, 42);
  EXPECT_TRUE(creator.Holds(memory, kRegion, 42));
}

// This is how contents survive their daemon.
TEST_F(VmmSharingContract, ADescriptorInAProcessWithoutTheDriverKeepsAKilledCreatorsMemory) {
  const Bytes before = FreeMemory();
  for (const uint64_t size : {kSample, kRegion}) {
    Peer creator(path());
    const std::string memory = creator.Create(size);
    creator.Fill(memory, size, 21);
    UniqueFd fd = creator.ExportDescriptor(memory);
    creator.Get("close-descriptor");
    Peer& holder = Holder(fd.get());
    fd.Reset();
    creator.Kill();
    EXPECT_TRUE(EventuallyFree(before - Bytes(size)));
    {
      Peer importer(path());
      const UniqueFd copy = holder.GetDescriptor("give-back");
      EXPECT_TRUE(importer.Holds(importer.Import(copy.get(), size), size, 21));
    }
    EXPECT_TRUE(EventuallyFree(before - Bytes(size)));
    holder.Get("close-descriptor");
    EXPECT_TRUE(EventuallyFree(before));
  }
}

TEST_F(VmmSharingContract, TheMemoryGoesWithTheLastHolderHoweverThatEnds) {
  const Bytes before = FreeMemory();
  Peer holder(path(), 0, /*with_context=*/false);
  {
    Peer creator(path());
    const UniqueFd fd = creator.ExportDescriptor(creator.Create(kRegion));
    EXPECT_EQ(holder.AskWith(fd.get(), "hold").result, CUDA_SUCCESS);
    creator.Exit();
  }
  EXPECT_TRUE(EventuallyFree(before - Bytes(kRegion)));
  holder.Kill();
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmSharingContract, ADescriptorUnderWayKeepsTheMemory) {
  const Bytes before = FreeMemory();
  int ends[2] = {};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  {
    Peer creator(path());
    const UniqueFd fd = creator.ExportDescriptor(creator.Create(kRegion));
    ASSERT_TRUE(SendWithDescriptor(from.get(), "x", fd.get()));
    creator.Kill();
  }
  EXPECT_TRUE(EventuallyFree(before - Bytes(kRegion)));
  from.Reset();
  to.Reset();
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmSharingContract, AnImportersMappingKeepsTheMemory) {
  Peer importer(path());
  const Bytes before = FreeMemory();
  std::string mapping;
  {
    Peer creator(path());
    const std::string memory = creator.Create(kRegion);
    creator.Fill(memory, kRegion, 31);
    mapping = importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
    importer.Get("close-descriptor");
    creator.Kill();
  }
  EXPECT_TRUE(EventuallyFree(before - Bytes(kRegion)));
  EXPECT_TRUE(importer.Holds(mapping, kSample, 31));
  importer.Fill(mapping, kRegion, 32);
  EXPECT_TRUE(importer.Holds(mapping, kSample, 32));
  importer.Get("release-mapped " + mapping);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmSharingContract, AnImportersHandleKeepsTheMemory) {
  Peer importer(path());
  const Bytes before = FreeMemory();
  std::string handle;
  {
    Peer creator(path());
    const UniqueFd fd = creator.ExportDescriptor(creator.Create(kRegion));
    handle = importer.AskWith(fd.get(), "import-handle").value;
    importer.Get("close-descriptor");
    creator.Kill();
  }
  EXPECT_TRUE(EventuallyFree(before - Bytes(kRegion)));
  importer.Get("release-handle " + handle);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmSharingContract, TheCreatorsReleaseLeavesTheImporterItsMemory) {
  Peer creator(path());
  Peer importer(path());
  const Bytes before = FreeMemory();
  const std::string memory = creator.Create(kRegion);
  creator.Fill(memory, kRegion, 51);
  const std::string mapping = importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
  importer.Get("close-descriptor");
  creator.Get("release-mapped " + memory);
  const std::string fresh = creator.Create(kRegion);
  creator.Fill(fresh, kRegion, 52);
  EXPECT_TRUE(importer.Holds(mapping, kSample, 51));
  EXPECT_TRUE(EventuallyFree(before - Bytes(2 * kRegion)));
  importer.Kill();
  creator.Get("release-mapped " + fresh);
  EXPECT_TRUE(Eventually([&] { return FreeMemory() >= before; }));
}

TEST_F(VmmSharingContract, AKilledImporterLeavesTheMemoryToItsCreator) {
  Peer creator(path());
  const Bytes before = FreeMemory();
  const std::string memory = creator.Create(kRegion);
  creator.Fill(memory, kRegion, 61);
  {
    Peer importer(path());
    importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
    importer.Kill();
  }
  EXPECT_TRUE(EventuallyFree(before - Bytes(kRegion)));
  EXPECT_TRUE(creator.Holds(memory, kSample, 61));
  creator.Get("release-mapped " + memory);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmSharingContract, AnImportCannotBeExportedAgain) {
  Peer creator(path());
  Peer importer(path());
  const std::string memory = creator.Create(kRegion);
  const std::string mapping = importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
  EXPECT_EQ(importer.Ask("export-descriptor " + mapping).result, CUDA_ERROR_INVALID_VALUE);
}

TEST_F(VmmSharingContract, AClaimOfAnotherSizeMapsNothing) {
  Peer creator(path());
  Peer importer(path());
  const UniqueFd fd = creator.ExportDescriptor(creator.Create(kRegion));
  for (const uint64_t size : {2 * kRegion, kSample}) {
    EXPECT_EQ(importer.AskWith(fd.get(), absl::StrCat("import ", size)).result,
              CUDA_ERROR_NOT_SUPPORTED)
        << size;
  }
}

// So read-only protects against accidents, and not against an importer that wants to write.
TEST_F(VmmSharingContract, AnImporterMayRaiseReadingToWriting) {
  Peer creator(path());
  Peer importer(path());
  const std::string memory = creator.Create(kRegion);
  const std::string mapping = importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
  const std::string access = absl::StrCat("access ", mapping, " ");
  importer.Get(absl::StrCat(access, static_cast<int>(CU_MEM_ACCESS_FLAGS_PROT_READ)));
  const std::string fill = absl::StrCat("fill ", mapping, " 0 4096 3");
  EXPECT_EQ(importer.Ask(fill).result, CUDA_ERROR_INVALID_VALUE);
  EXPECT_TRUE(importer.Holds(mapping, kSample, 0));
  importer.Get(absl::StrCat(access, static_cast<int>(CU_MEM_ACCESS_FLAGS_PROT_READWRITE)));
  EXPECT_EQ(importer.Ask(fill).result, CUDA_SUCCESS);
  EXPECT_TRUE(creator.Holds(memory, 4096, 3));
}

TEST_F(VmmSharingContract, FreshMemoryIsZeroAlsoWhereAKilledProcessWrote) {
  const Bytes before = FreeMemory();
  Peer first(path());
  first.Fill(first.Create(kRegion), kRegion, 0xCD);
  first.Kill();
  ASSERT_TRUE(EventuallyFree(before));
  Peer second(path());
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(second.Holds(second.Create(kRegion), kRegion, 0));
}

TEST_F(VmmSharingContract, AForkedChildKeepsWhatItsKilledParentCreated) {
  const Bytes before = FreeMemory();
  Peer parent(path());
  parent.Create(kRegion);
  const Bytes during = FreeMemory();
  parent.Get("fork-child");
  parent.Kill();
  EXPECT_EQ(FreeMemory(), during);
  parent.EndChildren();
  EXPECT_TRUE(EventuallyFree(before));
}

// Memory that a process releases itself is free, also if its children inherited the device files.
// Only a descriptor that they inherited keeps it.
TEST_F(VmmSharingContract, WhatAParentReleasesComesBackThoughItsForkedChildLives) {
  Peer parent(path());
  const Bytes before = FreeMemory();
  const std::string memory = parent.Create(kRegion);
  parent.Get("fork-child");
  parent.Get("release-mapped " + memory);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmSharingContract, AnImportThatAParentReleasesEndsThoughItsForkedChildLives) {
  Peer creator(path());
  Peer importer(path());
  const Bytes before = FreeMemory();
  const std::string memory = creator.Create(kRegion);
  const std::string mapping = importer.Import(creator.ExportDescriptor(memory).get(), kRegion);
  importer.Get("close-descriptor");
  importer.Get("fork-child");
  importer.Get("release-mapped " + mapping);
  creator.Get("release-mapped " + memory);
  EXPECT_TRUE(EventuallyFree(before));
}

// The descriptor alone is the right to the memory.
TEST_F(VmmSharingContract, AnotherUserGetsTheMemoryByItsDescriptorAndNotWithoutIt) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can start a process of another user";
  Peer stranger(path(), kNobody);
  if (!stranger.failure().empty()) GTEST_SKIP() << "as another user: " << stranger.failure();
  Peer creator(path());
  const std::string memory = creator.Create(kRegion);
  creator.Fill(memory, kRegion, 99);
  const UniqueFd fd = creator.ExportDescriptor(memory);
  // Its number means nothing in another process, and other users cannot open it through /proc.
  const std::string import = absl::StrCat("import ", kRegion);
  stranger.Get(absl::StrCat("open-descriptor /proc/", getpid(), "/fd/", fd.get()));
  EXPECT_EQ(stranger.Ask(import).result, CUDA_ERROR_UNKNOWN);
  EXPECT_TRUE(stranger.Holds(stranger.Import(fd.get(), kRegion), kSample, 99));
}

}  // namespace
}  // namespace tenure::testing
