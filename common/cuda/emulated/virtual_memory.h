// One process's memory of cuMemCreate on the emulated devices, and where it is mapped.
#ifndef COMMON_CUDA_EMULATED_VIRTUAL_MEMORY_H_
#define COMMON_CUDA_EMULATED_VIRTUAL_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include <cuda.h>

#include "common/cuda/emulated/card.h"
#include "common/cuda/emulated/device_memory.h"
#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// The kinds of access, which a mapping may allow.
enum class Use { kRead, kWrite };

// The handles that this process has, the address ranges that it reserved, and the mappings in them,
// over all devices.
//
// It differs from the real driver in two points. A handle ends with the context of its device. A
// handle that was released is refused, where the real driver leaves the effect undefined and may
// crash.
//
// Invariants:
//   1. Each mapping lies in one reservation, and maps one whole object.
//   2. An object stays as long as its handle or a mapping of it does.
//   3. Each address of a reservation is mapped, to an object or without access.
// Borrows: the cards of its objects.
// Thread safety: thread-compatible.
// Errors: the CUresult that the driver's caller gets.
class VirtualMemory {
 public:
  CUresult Create(Card& card, size_t bytes, bool exportable, CUmemGenericAllocationHandle* handle);
  CUresult Release(CUmemGenericAllocationHandle handle);
  CUresult Export(CUmemGenericAllocationHandle handle, UniqueFd* descriptor);
  // CUDA_ERROR_NOT_FOUND: the descriptor names no memory of this card.
  CUresult Import(Card& card, int descriptor, CUmemGenericAllocationHandle* handle);

  CUresult Reserve(size_t bytes, size_t alignment, CUdeviceptr* pointer);
  CUresult FreeReservation(CUdeviceptr pointer, size_t bytes);
  CUresult Map(CUdeviceptr pointer, size_t bytes, size_t offset,
               CUmemGenericAllocationHandle handle);
  CUresult Unmap(CUdeviceptr pointer, size_t bytes);
  CUresult SetAccess(CUdeviceptr pointer, size_t bytes, CUmemAccess_flags access);

  // The mapping that contains `pointer`.
  std::optional<MemoryRange> Find(CUdeviceptr pointer) const;
  // Whether mappings without a gap allow this use of all these bytes.
  bool Allows(Use use, CUdeviceptr pointer, size_t bytes) const;
  // The card of the memory that is mapped there; null without a mapping.
  const Card* CardAt(CUdeviceptr pointer) const;

  // Releases all memory of this card.
  void ReleaseAll(const Card& card);

 private:
  struct Object {
    Card* card = nullptr;
    Mapping memory;
    bool imported = false;
    bool exportable = false;
    bool released = false;  // its handle
    int mappings = 0;
  };
  using Objects = std::map<CUmemGenericAllocationHandle, Object>;
  struct MappedObject {
    size_t size = 0;
    CUmemGenericAllocationHandle object = 0;
    CUmemAccess_flags access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
  };
  using Mappings = std::map<CUdeviceptr, MappedObject>;

  CUmemGenericAllocationHandle Add(Object object);
  // The object with this handle, or end() if the handle is unknown or was released.
  Objects::iterator FindHandle(CUmemGenericAllocationHandle handle);
  // Frees an object if neither a handle nor a mapping of it is left.
  void FreeIfUnused(Objects::iterator object);
  void UnmapOne(Mappings::iterator mapping);
  bool IsReserved(CUdeviceptr pointer, size_t bytes) const;
  // Whether no mapping reaches over an end of this range.
  bool HoldsWholeMappings(CUdeviceptr pointer, size_t bytes) const;
  Mappings::const_iterator MappingAt(CUdeviceptr pointer) const;

  Objects objects_;
  CUmemGenericAllocationHandle last_handle_ = 0;
  std::map<CUdeviceptr, size_t> reservations_;
  Mappings mappings_;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_VIRTUAL_MEMORY_H_
