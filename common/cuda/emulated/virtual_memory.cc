#include "common/cuda/emulated/virtual_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/check.h"
#include "common/cuda/emulated/address_range.h"

namespace tenure::cuda::emulated {
namespace {

char* ToAddress(CUdeviceptr pointer) { return reinterpret_cast<char*>(pointer); }

bool IsWholePages(size_t bytes) { return bytes > 0 && bytes % kPage.value() == 0; }

int ProtectionOf(CUmemAccess_flags access) {
  if (access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE) return PROT_READ | PROT_WRITE;
  return access == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_NONE;
}

bool Permits(CUmemAccess_flags access, Use use) {
  return access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ||
         (access == CU_MEM_ACCESS_FLAGS_PROT_READ && use == Use::kRead);
}

}  // namespace

CUresult VirtualMemory::Create(Card& card, size_t bytes, bool exportable,
                               CUmemGenericAllocationHandle* handle) {
  if (!IsWholePages(bytes)) return CUDA_ERROR_INVALID_VALUE;
  Object object;
  object.card = &card;
  object.exportable = exportable;
  const CUresult result = card.Create(bytes, &object.memory);
  if (result == CUDA_SUCCESS) *handle = Add(object);
  return result;
}

CUresult VirtualMemory::Import(Card& card, int descriptor, CUmemGenericAllocationHandle* handle) {
  Object object;
  object.card = &card;
  object.imported = true;
  const CUresult result = card.Import(descriptor, &object.memory);
  if (result == CUDA_SUCCESS) *handle = Add(object);
  return result;
}

CUmemGenericAllocationHandle VirtualMemory::Add(Object object) {
  objects_[++last_handle_] = object;
  return last_handle_;
}

VirtualMemory::Objects::iterator VirtualMemory::FindHandle(CUmemGenericAllocationHandle handle) {
  // A released object is still in objects_ while it is mapped.
  const auto found = objects_.find(handle);
  return found != objects_.end() && found->second.released ? objects_.end() : found;
}

CUresult VirtualMemory::Release(CUmemGenericAllocationHandle handle) {
  const auto found = FindHandle(handle);
  if (found == objects_.end()) return CUDA_ERROR_INVALID_VALUE;
  found->second.released = true;
  FreeIfUnused(found);
  return CUDA_SUCCESS;
}

void VirtualMemory::FreeIfUnused(Objects::iterator object) {
  const Object& unused = object->second;
  if (!unused.released || unused.mappings > 0) return;
  if (unused.imported) {
    unused.card->EndImport(unused.memory);
  } else {
    unused.card->Free(unused.memory);
  }
  objects_.erase(object);
}

CUresult VirtualMemory::Export(CUmemGenericAllocationHandle handle, UniqueFd* descriptor) {
  const auto found = FindHandle(handle);
  if (found == objects_.end() || !found->second.exportable) return CUDA_ERROR_INVALID_VALUE;
  return found->second.card->Export(found->second.memory, descriptor);
}

CUresult VirtualMemory::Reserve(size_t bytes, size_t alignment, CUdeviceptr* pointer) {
  // An alignment is a power of two, or 0 for the default.
  if (!IsWholePages(bytes) || (alignment & (alignment - 1)) != 0) return CUDA_ERROR_INVALID_VALUE;
  char* address = ReserveAddresses(bytes, std::max<size_t>(alignment, kPage.value()));
  if (address == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  *pointer = reinterpret_cast<CUdeviceptr>(address);
  reservations_[*pointer] = bytes;
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::FreeReservation(CUdeviceptr pointer, size_t bytes) {
  const auto found = reservations_.find(pointer);
  if (found == reservations_.end() || found->second != bytes) return CUDA_ERROR_INVALID_VALUE;
  // A reservation with a mapping in it cannot be freed. Here and below, the difference of two
  // addresses is compared, because the sum of an address and a size may wrap.
  const auto mapping = mappings_.lower_bound(pointer);
  if (mapping != mappings_.end() && mapping->first - pointer < bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  FreeAddresses(ToAddress(pointer), bytes);
  reservations_.erase(found);
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::Map(CUdeviceptr pointer, size_t bytes, size_t offset,
                            CUmemGenericAllocationHandle handle) {
  const auto found = FindHandle(handle);
  if (found == objects_.end() || !IsWholePages(bytes) || pointer % kPage.value() != 0 ||
      !IsReserved(pointer, bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // No mapping contains the first address, and the next one begins behind the last.
  const auto next = mappings_.lower_bound(pointer);
  const bool free = MappingAt(pointer) == mappings_.end() &&
                    (next == mappings_.end() || next->first - pointer >= bytes);
  if (!free) return CUDA_ERROR_INVALID_VALUE;
  // The real driver, too, maps whole objects only.
  Object& object = found->second;
  if (offset != 0 || bytes != object.memory.bytes) return CUDA_ERROR_NOT_SUPPORTED;
  if (!MapAgain(object.memory.address, bytes, ToAddress(pointer))) return CUDA_ERROR_OUT_OF_MEMORY;
  // The object's own mapping has no access, and so has this copy until SetAccess.
  mappings_[pointer] = MappedObject{bytes, handle, CU_MEM_ACCESS_FLAGS_PROT_NONE};
  ++object.mappings;
  return CUDA_SUCCESS;
}

// As on the real driver: a range may hold several mappings, or none.
CUresult VirtualMemory::Unmap(CUdeviceptr pointer, size_t bytes) {
  if (!IsWholePages(bytes) || !IsReserved(pointer, bytes) || !HoldsWholeMappings(pointer, bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto mapping = mappings_.lower_bound(pointer);
  // The iterator is advanced before UnmapOne erases its element.
  while (mapping != mappings_.end() && mapping->first - pointer < bytes) UnmapOne(mapping++);
  return CUDA_SUCCESS;
}

void VirtualMemory::UnmapOne(Mappings::iterator mapping) {
  UnmapAddresses(ToAddress(mapping->first), mapping->second.size);
  // The object is looked up before the mapping is erased, because the mapping has its key.
  const auto object = objects_.find(mapping->second.object);
  mappings_.erase(mapping);
  --object->second.mappings;
  FreeIfUnused(object);
}

CUresult VirtualMemory::SetAccess(CUdeviceptr pointer, size_t bytes, CUmemAccess_flags access) {
  // The range must be one or more whole mappings without a gap.
  CUdeviceptr end = pointer;
  auto mapping = mappings_.find(pointer);
  while (mapping != mappings_.end() && mapping->first == end && end - pointer < bytes) {
    end += mapping->second.size;
    ++mapping;
  }
  if (bytes == 0 || end - pointer != bytes) return CUDA_ERROR_INVALID_VALUE;
  if (mprotect(ToAddress(pointer), bytes, ProtectionOf(access)) != 0) {
    return CUDA_ERROR_OPERATING_SYSTEM;
  }
  for (auto changed = mappings_.find(pointer); changed != mapping; ++changed) {
    changed->second.access = access;
  }
  return CUDA_SUCCESS;
}

bool VirtualMemory::IsReserved(CUdeviceptr pointer, size_t bytes) const {
  const auto after = reservations_.upper_bound(pointer);
  if (after == reservations_.begin()) return false;
  const auto& [base, size] = *std::prev(after);
  return pointer - base < size && bytes <= size - (pointer - base);
}

bool VirtualMemory::HoldsWholeMappings(CUdeviceptr pointer, size_t bytes) const {
  const auto first = MappingAt(pointer);
  const auto last = MappingAt(pointer + bytes - 1);
  return (first == mappings_.end() || first->first == pointer) &&
         (last == mappings_.end() || last->first + last->second.size == pointer + bytes);
}

VirtualMemory::Mappings::const_iterator VirtualMemory::MappingAt(CUdeviceptr pointer) const {
  const auto after = mappings_.upper_bound(pointer);
  if (after == mappings_.begin()) return mappings_.end();
  const auto mapping = std::prev(after);
  return pointer - mapping->first < mapping->second.size ? mapping : mappings_.end();
}

std::optional<MemoryRange> VirtualMemory::Find(CUdeviceptr pointer) const {
  const auto mapping = MappingAt(pointer);
  if (mapping == mappings_.end()) return std::nullopt;
  return MemoryRange{mapping->first, mapping->second.size};
}

bool VirtualMemory::Allows(Use use, CUdeviceptr pointer, size_t bytes) const {
  // The loop passes from mapping to mapping as long as the next one begins where the last one ends.
  auto mapping = MappingAt(pointer);
  CUdeviceptr at = pointer;
  while (mapping != mappings_.end() && mapping->first <= at &&
         Permits(mapping->second.access, use)) {
    const CUdeviceptr end = mapping->first + mapping->second.size;
    if (bytes <= end - pointer) return true;
    at = end;
    ++mapping;
  }
  return false;
}

const Card* VirtualMemory::CardAt(CUdeviceptr pointer) const {
  const auto mapping = MappingAt(pointer);
  return mapping != mappings_.end() ? objects_.at(mapping->second.object).card : nullptr;
}

void VirtualMemory::ReleaseAll(const Card& card) {
  // The mappings first: the last one frees an object whose handle was released, and may erase it.
  for (auto mapping = mappings_.begin(); mapping != mappings_.end();) {
    const auto next = std::next(mapping);
    if (objects_.at(mapping->second.object).card == &card) UnmapOne(mapping);
    mapping = next;
  }
  for (auto object = objects_.begin(); object != objects_.end();) {
    const auto next = std::next(object);
    if (object->second.card == &card) {
      object->second.released = true;
      FreeIfUnused(object);
    }
    object = next;
  }
}

}  // namespace tenure::cuda::emulated
