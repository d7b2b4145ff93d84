// Claims about memory whose owner or user frees it, dies, or leaves a child behind.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "tests/driver_contract/contract.h"

namespace tenure::testing {
namespace {

constexpr uint64_t kRegion = MiB(64).value();
// The bytes of a region that a test compares.
constexpr uint64_t kSample = MiB(2).value();

using DeathContract = DriverContract;

TEST_F(DeathContract, MemoryFreedUnderAStoppedImporterStaysThatImportersAlone) {
  Peer exporter(path());
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  const std::string mapping = importer.Open(exporter.Export(memory));
  exporter.Fill(memory, kRegion, 11);
  importer.Stop();
  EXPECT_EQ(exporter.Ask("free " + memory).result, CUDA_SUCCESS);
  std::vector<std::string> fresh;
  for (int i = 0; i < 8; ++i) {
    fresh.push_back(exporter.Allocate(kRegion));
    EXPECT_TRUE(exporter.Holds(fresh.back(), kSample, 0));
    exporter.Fill(fresh.back(), kRegion, 22);
  }
  importer.Continue();
  EXPECT_TRUE(importer.Holds(mapping, kSample, 11));
  importer.Fill(mapping, kRegion, 33);
  for (const std::string& other : fresh) EXPECT_TRUE(exporter.Holds(other, kSample, 22));
}

TEST_F(DeathContract, FreedMemoryStaysUsedUntilItsLastImporterClosesIt) {
  Peer exporter(path());
  Peer importer(path());
  const Bytes before = FreeMemory();
  const std::string memory = exporter.Allocate(kRegion);
  const std::string mapping = importer.Open(exporter.Export(memory));
  exporter.Get("free " + memory);
  EXPECT_EQ(FreeMemory(), before - Bytes(kRegion));
  importer.Get("close " + mapping);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, FreedMemoryStaysUsedUntilItsLastImporterDies) {
  Peer exporter(path());
  const Bytes before = FreeMemory();
  Peer importer(path());
  const std::string memory = exporter.Allocate(kRegion);
  importer.Open(exporter.Export(memory));
  const Bytes shared = FreeMemory();
  exporter.Get("free " + memory);
  EXPECT_EQ(FreeMemory(), shared);
  importer.Kill();
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, MemoryOfAKilledExporterLivesOnInItsImporterAlone) {
  Peer importer(path());
  Peer latecomer(path());
  const Bytes before = FreeMemory();
  Peer exporter(path());
  const std::string memory = exporter.Allocate(kRegion);
  exporter.Fill(memory, kRegion, 44);
  const std::string handle = exporter.Export(memory);
  const std::string mapping = importer.Open(handle);
  exporter.Kill();
  EXPECT_TRUE(EventuallyFree(before - Bytes(kRegion)));
  EXPECT_TRUE(importer.Holds(mapping, kSample, 44));
  importer.Fill(mapping, kRegion, 55);
  EXPECT_TRUE(importer.Holds(mapping, kSample, 55));
  EXPECT_EQ(latecomer.Ask("open " + handle).result, CUDA_ERROR_INVALID_HANDLE);
  importer.Get("close " + mapping);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, AKilledImporterLeavesTheMemoryToItsExporter) {
  const Bytes before = FreeMemory();
  Peer exporter(path());
  const Bytes with_context = FreeMemory();
  const std::string memory = exporter.Allocate(kRegion);
  const Bytes with_memory = FreeMemory();
  {
    Peer importer(path());
    importer.Open(exporter.Export(memory));
    importer.Allocate(kRegion);
    importer.Kill();
  }
  EXPECT_TRUE(EventuallyFree(with_memory));
  exporter.Get("free " + memory);
  EXPECT_TRUE(EventuallyFree(with_context));
  exporter.Exit();
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, TenKilledImportersLeaveFreeMemoryWhereItWas) {
  Peer exporter(path());
  const std::string handle = exporter.Export(exporter.Allocate(kRegion));
  const Bytes before = FreeMemory();
  for (int i = 0; i < 10; ++i) {
    Peer importer(path());
    importer.Open(handle);
    importer.Kill();
  }
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, ReleasingTheContextGivesItsMemoryBack) {
  Peer other(path(), 0, /*with_context=*/false);
  const Bytes before = FreeMemory();
  other.OpenContext();
  other.Allocate(kRegion);
  other.Get("release");
  EXPECT_TRUE(Eventually([&] { return FreeMemory() > before - Bytes(kRegion); }));
  other.Exit();
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, TheProcessListNamesTheProcessesWithAContextAndNoOthers) {
  Peer other(path(), 0, /*with_context=*/false);
  const pid_t pid = other.pid();
  EXPECT_FALSE(Lists(pid));
  other.OpenContext();
  EXPECT_TRUE(Lists(pid));
  other.Kill();
  EXPECT_TRUE(Eventually([pid] { return !Lists(pid); }));
}

// So the death of a process alone does not prove that it writes no more.
TEST_F(DeathContract, AForkedChildKeepsItsKilledParentListedAndItsMemoryUsed) {
  const Bytes before = FreeMemory();
  Peer parent(path());
  const pid_t pid = parent.pid();
  parent.Allocate(kRegion);
  const Bytes during = FreeMemory();
  parent.Get("fork-child");
  parent.Kill();
  EXPECT_TRUE(Lists(pid));
  EXPECT_EQ(FreeMemory(), during);
  parent.EndChildren();
  EXPECT_TRUE(Eventually([pid] { return !Lists(pid); }));
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, AForkedChildKeepsWhatItsKilledParentImported) {
  Peer exporter(path());
  const Bytes before = FreeMemory();
  const std::string memory = exporter.Allocate(kRegion);
  Peer importer(path());
  importer.Open(exporter.Export(memory));
  const Bytes during = FreeMemory();
  importer.Get("fork-child");
  importer.Kill();
  exporter.Get("free " + memory);
  EXPECT_EQ(FreeMemory(), during);
  importer.EndChildren();
  EXPECT_TRUE(EventuallyFree(before));
}

// Not only after SIGKILL: after exit(), too, the memory stays as long as the child lives.
TEST_F(DeathContract, AForkedChildKeepsItsExitedParentListedAndItsMemoryUsed) {
  const Bytes before = FreeMemory();
  Peer importer(path());
  const Bytes with_importer = FreeMemory();
  Peer parent(path());
  const pid_t pid = parent.pid();
  const std::string memory = parent.Allocate(kRegion);
  parent.Fill(memory, kRegion, 77);
  const std::string handle = parent.Export(memory);
  const Bytes during = FreeMemory();
  parent.Get("fork-child");
  parent.Exit();
  EXPECT_TRUE(Lists(pid));
  EXPECT_EQ(FreeMemory(), during);
  const std::string mapping = importer.Open(handle);
  EXPECT_TRUE(importer.Holds(mapping, kSample, 77));
  importer.Get("close " + mapping);
  parent.EndChildren();
  EXPECT_TRUE(Eventually([pid] { return !Lists(pid); }));
  EXPECT_TRUE(EventuallyFree(with_importer));
  importer.Exit();
  EXPECT_TRUE(EventuallyFree(before));
}

// Memory that a process frees itself is free, also if its children inherited the device files.
TEST_F(DeathContract, WhatAParentFreesComesBackThoughItsForkedChildLives) {
  Peer parent(path());
  const Bytes before = FreeMemory();
  const std::string memory = parent.Allocate(kRegion);
  parent.Get("fork-child");
  parent.Get("free " + memory);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, AnImportThatAParentClosesEndsThoughItsForkedChildLives) {
  Peer exporter(path());
  Peer importer(path());
  const Bytes before = FreeMemory();
  const std::string memory = exporter.Allocate(kRegion);
  const std::string mapping = importer.Open(exporter.Export(memory));
  importer.Get("fork-child");
  importer.Get("close " + mapping);
  exporter.Get("free " + memory);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(DeathContract, AParentThatReleasesItsContextIsOffTheListThoughItsForkedChildLives) {
  Peer parent(path());
  const pid_t pid = parent.pid();
  parent.Allocate(kRegion);
  const Bytes before = FreeMemory();
  parent.Get("fork-child");
  parent.Get("release");
  EXPECT_TRUE(Eventually([pid] { return !Lists(pid); }));
  EXPECT_GT(FreeMemory(), before + Bytes(kRegion));
}

TEST_F(DeathContract, AForkedChildCannotUseTheDriver) {
  Peer parent(path());
  EXPECT_EQ(parent.Ask("call-in-child").result, CUDA_ERROR_NOT_INITIALIZED);
}

}  // namespace
}  // namespace tenure::testing
