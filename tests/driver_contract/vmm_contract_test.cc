// Claims about memory of cuMemCreate within one process: what is refused, in which order it can be
// released, and what a mapping allows.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <vector>

#include "tests/driver_contract/contract.h"
#include "tests/driver_contract/vmm_calls.h"

namespace tenure::testing {
namespace {

constexpr uint64_t kUnit = MiB(2).value();
constexpr uint64_t kRegion = 4 * kUnit;

class VmmContract : public DriverContract {
 protected:
  static CUmemGenericAllocationHandle Create(uint64_t size) {
    CUmemGenericAllocationHandle handle = 0;
    EXPECT_EQ(CreateVmm(driver(), size, &handle), CUDA_SUCCESS);
    return handle;
  }

  static CUdeviceptr Reserve(uint64_t size) {
    CUdeviceptr base = 0;
    EXPECT_EQ(driver().cuMemAddressReserve(&base, size, 0, 0, 0), CUDA_SUCCESS);
    return base;
  }

  static CUresult Map(CUdeviceptr base, uint64_t size, CUmemGenericAllocationHandle handle) {
    return driver().cuMemMap(base, size, 0, handle, 0);
  }

  static CUresult SetAccess(CUdeviceptr base, uint64_t size, CUmemAccess_flags access) {
    return SetVmmAccess(driver(), base, size, access);
  }

  static VmmMapping CreateMapped(uint64_t size) {
    VmmMapping mapping = {Create(size), 0, size};
    EXPECT_EQ(MapVmm(driver(), &mapping), CUDA_SUCCESS);
    return mapping;
  }

  static void Release(const VmmMapping& mapping) {
    EXPECT_EQ(UnmapVmm(driver(), mapping), CUDA_SUCCESS);
    EXPECT_EQ(driver().cuMemRelease(mapping.handle), CUDA_SUCCESS);
  }

  static CUresult Fill(CUdeviceptr base, uint64_t size, unsigned char value) {
    const CUresult result = driver().cuMemsetD8(base, value, size);
    return result != CUDA_SUCCESS ? result : driver().cuCtxSynchronize();
  }

  static CUresult Read(CUdeviceptr at) {
    char byte = 0;
    return driver().cuMemcpyDtoH(&byte, at, 1);
  }

  static int ByteAt(CUdeviceptr at) {
    unsigned char byte = 0;
    EXPECT_EQ(driver().cuMemcpyDtoH(&byte, at, 1), CUDA_SUCCESS);
    return byte;
  }

  static int Attribute(CUdevice_attribute attribute) {
    int value = 0;
    EXPECT_EQ(driver().cuDeviceGetAttribute(&value, attribute, 0), CUDA_SUCCESS);
    return value;
  }
};

TEST_F(VmmContract, TheDeviceOffersDescriptorsOfMemory) {
  EXPECT_EQ(Attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED), 1);
  EXPECT_EQ(Attribute(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED), 1);
  EXPECT_EQ(Attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED), 1);
  EXPECT_EQ(Attribute(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED), 1);
}

TEST_F(VmmContract, MemoryComesInUnitsOfTwoMebibytes) {
  const CUmemAllocationProp properties = VmmProperties();
  for (const auto option :
       {CU_MEM_ALLOC_GRANULARITY_MINIMUM, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED}) {
    size_t granularity = 0;
    EXPECT_EQ(driver().cuMemGetAllocationGranularity(&granularity, &properties, option),
              CUDA_SUCCESS);
    EXPECT_EQ(granularity, kUnit);
  }
}

TEST_F(VmmContract, NothingPartsOfUnitsAndTooMuchAreRefused) {
  CUmemGenericAllocationHandle handle = 0;
  for (const uint64_t size : {uint64_t{0}, kUnit / 2, kUnit * 3 / 2}) {
    EXPECT_EQ(CreateVmm(driver(), size, &handle), CUDA_ERROR_INVALID_VALUE) << size;
  }
  const uint64_t total = (TotalMemory().value() + kUnit - 1) / kUnit * kUnit;
  for (const uint64_t size : {total, total * 2, uint64_t{1} << 60}) {
    EXPECT_EQ(CreateVmm(driver(), size, &handle), CUDA_ERROR_OUT_OF_MEMORY) << size;
  }
  CUdeviceptr base = 0;
  for (const uint64_t size : {uint64_t{0}, uint64_t{4096}, kUnit / 2}) {
    EXPECT_EQ(driver().cuMemAddressReserve(&base, size, 0, 0, 0), CUDA_ERROR_INVALID_VALUE) << size;
  }
  EXPECT_EQ(driver().cuMemAddressReserve(&base, kUnit, 3, 0, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(VmmContract, FreeMemoryFallsByWhatIsCreatedAndRisesByWhatIsReleased) {
  const Bytes before = FreeMemory();
  const VmmMapping mapping = CreateMapped(kRegion);
  EXPECT_EQ(FreeMemory(), before - Bytes(kRegion));
  Release(mapping);
  EXPECT_EQ(FreeMemory(), before);
}

TEST_F(VmmContract, FreshMemoryIsZeroAlsoWhereOtherMemoryWas) {
  for (int round = 0; round < 4; ++round) {
    const VmmMapping mapping = CreateMapped(kRegion);
    std::vector<char> bytes(kRegion, 'x');
    ASSERT_EQ(driver().cuMemcpyDtoH(bytes.data(), mapping.base, kRegion), CUDA_SUCCESS);
    EXPECT_EQ(bytes, std::vector<char>(kRegion, 0)) << round;
    ASSERT_EQ(Fill(mapping.base, kRegion, 0xAB), CUDA_SUCCESS);
    Release(mapping);
  }
}

TEST_F(VmmContract, WholeObjectsAreMappedIntoReservedAddressesThatAreFree) {
  const CUmemGenericAllocationHandle handle = Create(kRegion);
  const CUdeviceptr base = Reserve(4 * kRegion);
  // With another size nothing is mapped.
  EXPECT_EQ(Map(base, 2 * kRegion, handle), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(Map(base, kUnit, handle), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(driver().cuMemMap(base, kUnit, kUnit, handle, 0), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_EQ(Map(base + 4096, kRegion, handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Map(base + 4 * kRegion, kRegion, handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Map(base, kRegion, handle), CUDA_SUCCESS);
  EXPECT_EQ(Map(base, kRegion, handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Map(base + kUnit, kRegion, handle), CUDA_ERROR_INVALID_VALUE);
  // The same object a second time.
  EXPECT_EQ(Map(base + kRegion, kRegion, handle), CUDA_SUCCESS);
  ASSERT_EQ(SetAccess(base, 2 * kRegion, CU_MEM_ACCESS_FLAGS_PROT_READWRITE), CUDA_SUCCESS);
  ASSERT_EQ(Fill(base, 1, 12), CUDA_SUCCESS);
  EXPECT_EQ(ByteAt(base + kRegion), 12);
  EXPECT_EQ(driver().cuMemUnmap(base, 2 * kRegion), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemAddressFree(base, 4 * kRegion), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemRelease(handle), CUDA_SUCCESS);
}

TEST_F(VmmContract, AFreshMappingAllowsNoAccess) {
  const CUmemGenericAllocationHandle handle = Create(kRegion);
  const CUdeviceptr base = Reserve(kRegion);
  ASSERT_EQ(Map(base, kRegion, handle), CUDA_SUCCESS);
  EXPECT_EQ(Fill(base, 64, 5), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Read(base), CUDA_ERROR_INVALID_VALUE);
  Release({handle, base, kRegion});
}

TEST_F(VmmContract, WhatIsMappedForReadingIsNotWritten) {
  const VmmMapping mapping = CreateMapped(kRegion);
  ASSERT_EQ(Fill(mapping.base, kRegion, 5), CUDA_SUCCESS);
  ASSERT_EQ(SetAccess(mapping.base, kRegion, CU_MEM_ACCESS_FLAGS_PROT_READ), CUDA_SUCCESS);
  const std::array<char, 64> other = {};
  EXPECT_EQ(Fill(mapping.base, 64, 6), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemcpyHtoD(mapping.base, other.data(), other.size()),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemcpyDtoD(mapping.base, mapping.base + kUnit, 64),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(ByteAt(mapping.base), 5);
  ASSERT_EQ(SetAccess(mapping.base, kRegion, CU_MEM_ACCESS_FLAGS_PROT_NONE), CUDA_SUCCESS);
  EXPECT_EQ(Read(mapping.base), CUDA_ERROR_INVALID_VALUE);
  ASSERT_EQ(SetAccess(mapping.base, kRegion, CU_MEM_ACCESS_FLAGS_PROT_READWRITE), CUDA_SUCCESS);
  EXPECT_EQ(Fill(mapping.base, 64, 6), CUDA_SUCCESS);
  EXPECT_EQ(ByteAt(mapping.base), 6);
  Release(mapping);
}

TEST_F(VmmContract, AccessIsSetForWholeMappingsOnly) {
  const VmmMapping mapping = CreateMapped(kRegion);
  const auto read = CU_MEM_ACCESS_FLAGS_PROT_READ;
  EXPECT_EQ(SetAccess(mapping.base, kUnit, read), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(SetAccess(mapping.base, 2 * kRegion, read), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(SetAccess(mapping.base, kRegion, static_cast<CUmemAccess_flags>(2)),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(Fill(mapping.base, kRegion, 1), CUDA_SUCCESS);
  EXPECT_EQ(Fill(mapping.base + kUnit, kRegion, 1), CUDA_ERROR_INVALID_VALUE);
  Release(mapping);
}

TEST_F(VmmContract, NeighbouringMappingsAreOneRangeToCallsThatUseThem) {
  const CUmemGenericAllocationHandle first = Create(kRegion);
  const CUmemGenericAllocationHandle second = Create(kUnit);
  const CUdeviceptr base = Reserve(2 * kRegion);
  const uint64_t both = kRegion + kUnit;
  ASSERT_EQ(Map(base, kRegion, first), CUDA_SUCCESS);
  ASSERT_EQ(Map(base + kRegion, kUnit, second), CUDA_SUCCESS);
  ASSERT_EQ(SetAccess(base, both, CU_MEM_ACCESS_FLAGS_PROT_READWRITE), CUDA_SUCCESS);
  EXPECT_EQ(Fill(base + kUnit, kRegion, 9), CUDA_SUCCESS);
  EXPECT_EQ(ByteAt(base + kRegion + kUnit - 1), 9);
  CUdeviceptr found = 0;
  size_t size = 0;
  EXPECT_EQ(driver().cuMemGetAddressRange(&found, &size, base + 4096), CUDA_SUCCESS);
  EXPECT_EQ(found, base);
  EXPECT_EQ(size, kRegion);
  EXPECT_EQ(driver().cuMemUnmap(base, both), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemAddressFree(base, 2 * kRegion), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemRelease(first), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemRelease(second), CUDA_SUCCESS);
}

TEST_F(VmmContract, MappingsEndWholeAndBeforeTheirAddresses) {
  const VmmMapping mapping = CreateMapped(kRegion);
  ASSERT_EQ(Fill(mapping.base, kRegion, 7), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemAddressFree(mapping.base, kRegion), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemUnmap(mapping.base, kUnit), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemUnmap(mapping.base + kUnit, kUnit), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemUnmap(mapping.base, kRegion), CUDA_SUCCESS);
  EXPECT_EQ(Read(mapping.base), CUDA_ERROR_INVALID_VALUE);
  // Unmapping addresses without a mapping is allowed.
  EXPECT_EQ(driver().cuMemUnmap(mapping.base, kRegion), CUDA_SUCCESS);
  // The bytes stayed with the handle.
  ASSERT_EQ(Map(mapping.base, kRegion, mapping.handle), CUDA_SUCCESS);
  ASSERT_EQ(SetAccess(mapping.base, kRegion, CU_MEM_ACCESS_FLAGS_PROT_READ), CUDA_SUCCESS);
  EXPECT_EQ(ByteAt(mapping.base), 7);
  ASSERT_EQ(driver().cuMemUnmap(mapping.base, kRegion), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemAddressFree(mapping.base, kUnit), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemAddressFree(mapping.base + kUnit, kUnit), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemAddressFree(mapping.base, kRegion), CUDA_SUCCESS);
  EXPECT_EQ(driver().cuMemAddressFree(mapping.base, kRegion), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemRelease(mapping.handle), CUDA_SUCCESS);
}

TEST_F(VmmContract, AMappingKeepsItsMemoryAfterTheHandle) {
  const Bytes before = FreeMemory();
  const VmmMapping mapping = CreateMapped(kRegion);
  ASSERT_EQ(Fill(mapping.base, kRegion, 8), CUDA_SUCCESS);
  ASSERT_EQ(driver().cuMemRelease(mapping.handle), CUDA_SUCCESS);
  EXPECT_EQ(ByteAt(mapping.base), 8);
  EXPECT_EQ(FreeMemory(), before - Bytes(kRegion));
  ASSERT_EQ(UnmapVmm(driver(), mapping), CUDA_SUCCESS);
  EXPECT_TRUE(EventuallyFree(before));
}

TEST_F(VmmContract, AProcessMayImportItsOwnDescriptorButExportNoImport) {
  const VmmMapping mapping = CreateMapped(kRegion);
  UniqueFd fd;
  ASSERT_EQ(ExportVmm(driver(), mapping.handle, &fd), CUDA_SUCCESS);
  EXPECT_NE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  VmmMapping imported = {0, 0, kRegion};
  ASSERT_EQ(ImportVmm(driver(), fd.get(), &imported.handle), CUDA_SUCCESS);
  UniqueFd again;
  EXPECT_EQ(ExportVmm(driver(), imported.handle, &again), CUDA_ERROR_INVALID_VALUE);
  ASSERT_EQ(MapVmm(driver(), &imported), CUDA_SUCCESS);
  ASSERT_EQ(Fill(mapping.base, kRegion, 10), CUDA_SUCCESS);
  EXPECT_EQ(ByteAt(imported.base), 10);
  Release(mapping);
  EXPECT_EQ(ByteAt(imported.base), 10);
  Release(imported);
}

TEST_F(VmmContract, MemoryCreatedWithoutAHandleTypeIsNotExported) {
  CUmemAllocationProp properties = VmmProperties();
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
  CUmemGenericAllocationHandle handle = 0;
  ASSERT_EQ(driver().cuMemCreate(&handle, kUnit, &properties, 0), CUDA_SUCCESS);
  UniqueFd fd;
  EXPECT_EQ(ExportVmm(driver(), handle, &fd), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemRelease(handle), CUDA_SUCCESS);
}

TEST_F(VmmContract, OtherFilesAreNotImported) {
  const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  CUmemGenericAllocationHandle handle = 0;
  for (const int fd : {-1, 1'000'000, file.get()}) {
    EXPECT_EQ(ImportVmm(driver(), fd, &handle), CUDA_ERROR_UNKNOWN) << fd;
  }
}

TEST_F(VmmContract, ItHasNoLegacyHandleAndIsNotFreedAsAnAllocation) {
  const VmmMapping mapping = CreateMapped(kUnit);
  CUipcMemHandle handle = {};
  EXPECT_EQ(driver().cuIpcGetMemHandle(&handle, mapping.base), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(driver().cuMemFree(mapping.base), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(ByteAt(mapping.base), 0);
  Release(mapping);
}

TEST_F(VmmContract, NoneOfItsCallsNeedsACurrentContext) {
  CUcontext context = nullptr;
  ASSERT_EQ(driver().cuCtxPopCurrent(&context), CUDA_SUCCESS);
  const VmmMapping mapping = CreateMapped(kUnit);
  UniqueFd fd;
  EXPECT_EQ(ExportVmm(driver(), mapping.handle, &fd), CUDA_SUCCESS);
  Release(mapping);
  ASSERT_EQ(driver().cuCtxPushCurrent(context), CUDA_SUCCESS);
}

}  // namespace
}  // namespace tenure::testing
