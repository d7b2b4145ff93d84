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

// What an access needs of a mapping.
enum class Use { kRead, kWrite };

// This process's memory of cuMemCreate: the handles it has, the address ranges it reserved, and
// what is mapped where, over all devices.
//
// Two things are less than on the real driver: a handle lives no longer than its device's context
// is retained, and a handle that was released is refused, which there is undefined and may crash.
//
// Invariants: 1. every mapping lies in one reservation and is of one whole object; 2. an object
// stays while its handle or a mapping does; 3. every address of a reservation is mapped, to an
// object or to nothing that can be accessed.
// Borrows: the cards of its objects.
// Thread safety: thread-compatible.
// Errors: the CUresult that the driver's caller gets.
class VirtualMemory {
 public:
  CUresult Create(Card& card, size_t bytes, bool exportable, CUmemGenericAllocationHandle* handle);
  CUresult Release(CUmemGenericAllocationHandle handle);
  CUresult Export(CUmemGenericAllocationHandle handle, UniqueFd* descriptor);
  // NOT_FOUND: the descriptor is none of this card's.
  CUresult Import(Card& card, int descriptor, CUmemGenericAllocationHandle* handle);

  CUresult Reserve(size_t bytes, size_t alignment, CUdeviceptr* pointer);
  CUresult FreeReservation(CUdeviceptr pointer, size_t bytes);
  CUresult Map(CUdeviceptr pointer, size_t bytes, size_t offset,
               CUmemGenericAllocationHandle handle);
  CUresult Unmap(CUdeviceptr pointer, size_t bytes);
  CUresult SetAccess(CUdeviceptr pointer, size_t bytes, CUmemAccess_flags access);

  // The mapping that `pointer` lies in.
  std::optional<MemoryRange> Find(CUdeviceptr pointer) const;
  // Whether mappings without a gap allow this use of all these bytes.
  bool Allows(Use use, CUdeviceptr pointer, size_t bytes) const;
  // Whose memory is mapped there; null without a mapping.
  const Card* CardAt(CUdeviceptr pointer) const;

  // Everything that is of this card.
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
  // End where its handle is valid.
  Objects::iterator FindHandle(CUmemGenericAllocationHandle handle);
  // Gives an object up that neither a handle nor a mapping needs.
  void Drop(Objects::iterator object);
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
