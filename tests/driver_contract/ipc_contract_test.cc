// Claims about cuIpc: what a handle names, which processes can open it, and which may free.
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "tests/driver_contract/contract.h"

namespace tenure::testing {
namespace {

constexpr uint64_t kRegion = MiB(2).value();

using IpcContract = DriverContract;

TEST_F(IpcContract, AHandleOfAnInteriorPointerNamesTheWholeAllocation) {
  Peer exporter(path());
  const std::string memory = exporter.Allocate(2 * kRegion);
  const std::string handle = exporter.Export(memory);
  EXPECT_EQ(exporter.Get(absl::StrCat("export ", memory, " 4096")), handle);
  EXPECT_EQ(exporter.Get(absl::StrCat("export ", memory, " ", 2 * kRegion - 1)), handle);
}

TEST_F(IpcContract, SmallAllocationsLieSideBySideAndHaveHandlesOfTheirOwn) {
  Peer exporter(path());
  const std::string first = exporter.Allocate(4096);
  const std::string second = exporter.Allocate(4096);
  EXPECT_EQ(exporter.Get(absl::StrCat("distance ", first, " ", second)), "4096");
  EXPECT_EQ(exporter.Get(absl::StrCat("modulo ", first, " 512")), "0");
  EXPECT_NE(exporter.Export(first), exporter.Export(second));
}

TEST_F(IpcContract, EachSmallAllocationIsOpenedByItsOwnHandle) {
  Peer exporter(path());
  Peer importer(path());
  const std::string first = exporter.Allocate(4096);
  const std::string second = exporter.Allocate(4096);
  exporter.Fill(first, 4096, 1);
  exporter.Fill(second, 4096, 2);
  EXPECT_TRUE(importer.Holds(importer.Open(exporter.Export(first)), 4096, 1));
  EXPECT_TRUE(importer.Holds(importer.Open(exporter.Export(second)), 4096, 2));
}

TEST_F(IpcContract, WhatOneProcessWritesTheOtherReads) {
  Peer exporter(path());
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  const std::string mapping = importer.Open(exporter.Export(memory));
  exporter.Fill(memory, kRegion, 17);
  EXPECT_TRUE(importer.Holds(mapping, kRegion, 17));
  importer.Fill(mapping, kRegion, 42);
  EXPECT_TRUE(exporter.Holds(memory, kRegion, 42));
}

TEST_F(IpcContract, ASecondOpenGivesTheSamePointerAndIsCounted) {
  Peer exporter(path());
  Peer importer(path());
  const std::string handle = exporter.Export(exporter.Allocate(kRegion));
  const std::string first = importer.Open(handle);
  const std::string second = importer.Open(handle);
  EXPECT_EQ(importer.Get(absl::StrCat("distance ", first, " ", second)), "0");
  EXPECT_EQ(importer.Ask("close " + first).result, CUDA_SUCCESS);
  EXPECT_TRUE(importer.Holds(second, kRegion, 0));
  EXPECT_EQ(importer.Ask("close " + second).result, CUDA_SUCCESS);
  EXPECT_EQ(importer.Ask("close " + first).result, CUDA_ERROR_INVALID_VALUE);
}

TEST_F(IpcContract, TheExporterCannotOpenItsOwnHandle) {
  Peer exporter(path());
  const std::string handle = exporter.Export(exporter.Allocate(kRegion));
  EXPECT_EQ(exporter.Ask("open " + handle).result, CUDA_ERROR_INVALID_CONTEXT);
}

TEST_F(IpcContract, GarbageIsNoHandle) {
  Peer importer(path());
  std::minstd_rand random(20261123);
  std::string noise(CU_IPC_HANDLE_SIZE, '\0');
  EXPECT_EQ(importer.Ask("open " + absl::BytesToHexString(noise)).result, CUDA_ERROR_INVALID_VALUE);
  for (char& byte : noise) byte = static_cast<char>(random());
  EXPECT_EQ(importer.Ask("open " + absl::BytesToHexString(noise)).result, CUDA_ERROR_INVALID_VALUE);
}

TEST_F(IpcContract, AFreedAllocationCannotBeOpened) {
  Peer exporter(path());
  Peer importer(path());
  for (const uint64_t size : {kRegion, uint64_t{4096}}) {
    const std::string memory = exporter.Allocate(size);
    const std::string handle = exporter.Export(memory);
    exporter.Get("free " + memory);
    EXPECT_EQ(importer.Ask("open " + handle).result, CUDA_ERROR_INVALID_VALUE) << size;
  }
}

// So a handle may name another allocation than the one it was made for. The process that passes it
// on must say which allocation it means. The process that frees must know that no other one will
// still open it.
TEST_F(IpcContract, AStaleHandleOpensWhatItsExporterAllocatedNext) {
  Peer exporter(path());
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  const std::string handle = exporter.Export(memory);
  exporter.Get("free " + memory);
  const std::string next = exporter.Allocate(kRegion);
  exporter.Fill(next, kRegion, 66);
  EXPECT_NE(exporter.Export(next), handle);
  EXPECT_TRUE(importer.Holds(importer.Open(handle), kRegion, 66));
}

TEST_F(IpcContract, WhatIsOpenOpensAgainThoughItsExporterFreedItOrDied) {
  Peer exporter(path());
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  const std::string handle = exporter.Export(memory);
  importer.Open(handle);
  exporter.Get("free " + memory);
  EXPECT_EQ(importer.Ask("open " + handle).result, CUDA_SUCCESS);
  exporter.Kill();
  EXPECT_EQ(importer.Ask("open " + handle).result, CUDA_SUCCESS);
}

// Small allocations share a page, and a handle opens the whole page, with all its allocations.
// Memory that must be separate therefore takes whole pages.
TEST_F(IpcContract, AnImporterOfASmallAllocationSeesWhatComesThereNext) {
  Peer exporter(path());
  Peer importer(path());
  Peer latecomer(path());
  const std::string neighbour = exporter.Allocate(4096);
  const std::string memory = exporter.Allocate(4096);
  const std::string handle = exporter.Export(memory);
  const std::string mapping = importer.Open(handle);
  exporter.Get("free " + memory);
  EXPECT_EQ(latecomer.Ask("open " + handle).result, CUDA_SUCCESS);
  const std::string next = exporter.Allocate(4096);
  EXPECT_EQ(exporter.Get(absl::StrCat("distance ", memory, " ", next)), "0");
  exporter.Fill(next, 4096, 9);
  EXPECT_TRUE(importer.Holds(mapping, 4096, 9));
}

TEST_F(IpcContract, OnlyMemoryOfOnesOwnIsExportedAndOnlyImportsAreClosed) {
  Peer exporter(path());
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  const std::string mapping = importer.Open(exporter.Export(memory));
  EXPECT_EQ(importer.Ask("export " + mapping).result, CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(exporter.Ask("close " + memory).result, CUDA_ERROR_INVALID_VALUE);
}

TEST_F(IpcContract, ADeadExportersHandleCannotBeOpened) {
  Peer exporter(path());
  Peer importer(path());
  const std::string handle = exporter.Export(exporter.Allocate(kRegion));
  exporter.Kill();
  EXPECT_EQ(importer.Ask("open " + handle).result, CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(IpcContract, OnlyTheOwnerFreesAndOnlyOnce) {
  Peer exporter(path());
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  const std::string mapping = importer.Open(exporter.Export(memory));
  EXPECT_EQ(importer.Ask("free " + mapping).result, CUDA_ERROR_INVALID_VALUE);
  importer.Get("close " + mapping);
  EXPECT_EQ(exporter.Ask("free " + memory).result, CUDA_SUCCESS);
  EXPECT_EQ(exporter.Ask("free " + memory).result, CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemFree(4096), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(IpcContract, ManyMappingsOfOneProcessAreFine) {
  const char* wanted = std::getenv("TENURE_CONTRACT_MAPPINGS");
  int mappings = 512;
  if (wanted != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(wanted, &mappings)) << wanted;
  }
  Peer exporter(path());
  Peer importer(path());
  std::vector<std::string> opened;
  for (int i = 0; i < mappings; ++i) {
    const std::string memory = exporter.Allocate(kRegion);
    opened.push_back(importer.Open(exporter.Export(memory)));
  }
  importer.Fill(opened.back(), kRegion, 5);
  EXPECT_TRUE(importer.Holds(opened.front(), kRegion, 0));
  for (const std::string& mapping : opened) importer.Get("close " + mapping);
}

// A handle protects against accidents only, because other processes can guess it.
TEST_F(IpcContract, AnotherUserMayOpenAHandle) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can start a process of another user";
  constexpr uid_t kNobody = 65534;
  Peer importer(path(), kNobody);
  if (!importer.failure().empty()) GTEST_SKIP() << "as another user: " << importer.failure();
  Peer exporter(path());
  const std::string memory = exporter.Allocate(kRegion);
  exporter.Fill(memory, kRegion, 99);
  EXPECT_TRUE(importer.Holds(importer.Open(exporter.Export(memory)), kRegion, 99));
}

}  // namespace
}  // namespace tenure::testing
