// One process's memory of cuMemAlloc on an emulated device, and its imports.
#ifndef COMMON_CUDA_EMULATED_DEVICE_MEMORY_H_
#define COMMON_CUDA_EMULATED_DEVICE_MEMORY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include <cuda.h>

#include "common/cuda/emulated/card.h"
#include "common/cuda/emulated/handle.h"

namespace tenure::cuda::emulated {

// Half-open, in this process's addresses.
struct MemoryRange {
  CUdeviceptr base = 0;
  size_t size = 0;
};

// Allocations of up to 1 MiB share backings of 2 MiB at 512-byte steps, as the real driver packs
// them: 1000 of 4 KiB were seen to use 4 MiB. Each larger one has a backing of its own. As on the
// real driver, a handle of a small allocation opens as long as its backing lives, an importer sees
// the whole backing, and a range in it that is used again keeps its old bytes.
//
// Invariants: 1. a fresh backing is zero; 2. a shared backing's free ranges and its allocations
// tile it; 3. a backing is imported once, however many pointers into it are open.
// Borrows: the card.
// Thread safety: thread-compatible.
// Errors: the CUresult that the driver's caller gets.
class DeviceMemory {
 public:
  explicit DeviceMemory(Card& card) : card_(card) {}

  CUresult Allocate(size_t bytes, CUdeviceptr* pointer);
  // `still_imported`: another process has the memory mapped, so it stays in use.
  CUresult Free(CUdeviceptr pointer, bool* still_imported);
  CUresult Export(CUdeviceptr pointer, CUipcMemHandle* handle);
  CUresult Import(const CUipcMemHandle& handle, CUdeviceptr* pointer);
  CUresult CloseImport(CUdeviceptr pointer);
  // The live allocation or import that `pointer` lies in.
  std::optional<MemoryRange> Find(CUdeviceptr pointer) const;
  void ReleaseAll();

 private:
  // A backing and, when small allocations share it, its free ranges: offset to length.
  struct OwnBacking {
    Mapping mapping;
    bool shared = false;
    std::map<size_t, size_t> free;
  };
  struct Allocation {
    size_t size = 0;
    uint64_t backing = 0;
  };
  struct ImportedBacking {
    Mapping mapping;
    int pointers = 0;  // into it, in opened_
  };
  struct Opened {
    size_t size = 0;
    uint64_t backing = 0;
    int opens = 0;
  };

  CUresult AllocateLarge(size_t bytes, CUdeviceptr* pointer);
  CUresult AllocateSmall(size_t bytes, CUdeviceptr* pointer);
  CUdeviceptr Carve(OwnBacking& backing, std::map<size_t, size_t>::iterator range, size_t bytes);
  // Adds the range to the free ones. Returns whether the whole backing is free now.
  static bool FreeRange(OwnBacking& backing, size_t offset, size_t bytes);
  // Opens `handle` once more, if its pointer in the imported `backing` is open already.
  bool OpenAgain(const Handle& handle, uint64_t backing, CUdeviceptr* pointer);

  Card& card_;
  // By BackingSlot::id.
  std::map<uint64_t, OwnBacking> backings_;
  std::map<uint64_t, ImportedBacking> imports_;
  // By pointer.
  std::map<CUdeviceptr, Allocation> allocations_;
  std::map<CUdeviceptr, Opened> opened_;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_DEVICE_MEMORY_H_
