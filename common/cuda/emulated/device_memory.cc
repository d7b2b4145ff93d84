#include "common/cuda/emulated/device_memory.h"

#include <cstring>
#include <iterator>

#include "common/bytes.h"

namespace tenure::cuda::emulated {
namespace {

constexpr size_t kLargestSmall = MiB(1).value();
constexpr Bytes kSmallUnit = Bytes(512);

CUdeviceptr ToPointer(const char* address) { return reinterpret_cast<CUdeviceptr>(address); }

size_t RoundedSmall(size_t bytes) { return RoundUp(Bytes(bytes), kSmallUnit)->value(); }

}  // namespace

CUresult DeviceMemory::Allocate(size_t bytes, CUdeviceptr* pointer) {
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  return bytes <= kLargestSmall ? AllocateSmall(bytes, pointer) : AllocateLarge(bytes, pointer);
}

CUresult DeviceMemory::AllocateLarge(size_t bytes, CUdeviceptr* pointer) {
  const std::optional<Bytes> rounded = RoundUp(Bytes(bytes), kPage);
  if (!rounded) return CUDA_ERROR_OUT_OF_MEMORY;
  OwnBacking backing;
  const CUresult result = card_.Allocate(rounded->value(), &backing.mapping);
  if (result != CUDA_SUCCESS) return result;
  // The requested size is stored, not the rounded one: cuMemGetAddressRange answers it.
  *pointer = ToPointer(backing.mapping.address);
  allocations_[*pointer] = Allocation{bytes, backing.mapping.id};
  backings_[backing.mapping.id] = std::move(backing);
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::AllocateSmall(size_t bytes, CUdeviceptr* pointer) {
  // First fit. A backing that is not shared has no free ranges.
  for (auto& [id, backing] : backings_) {
    for (auto range = backing.free.begin(); range != backing.free.end(); ++range) {
      if (range->second < RoundedSmall(bytes)) continue;
      *pointer = Carve(backing, range, bytes);
      return CUDA_SUCCESS;
    }
  }
  OwnBacking fresh;
  const CUresult result = card_.Allocate(kPage.value(), &fresh.mapping);
  if (result != CUDA_SUCCESS) return result;
  fresh.shared = true;
  fresh.free[0] = kPage.value();
  OwnBacking& backing = backings_[fresh.mapping.id] = std::move(fresh);
  *pointer = Carve(backing, backing.free.begin(), bytes);
  return CUDA_SUCCESS;
}

CUdeviceptr DeviceMemory::Carve(OwnBacking& backing, std::map<size_t, size_t>::iterator range,
                                size_t bytes) {
  const auto [offset, length] = *range;
  const size_t taken = RoundedSmall(bytes);
  backing.free.erase(range);
  if (length > taken) backing.free[offset + taken] = length - taken;
  const CUdeviceptr pointer = ToPointer(backing.mapping.address + offset);
  allocations_[pointer] = Allocation{bytes, backing.mapping.id};
  return pointer;
}

CUresult DeviceMemory::Free(CUdeviceptr pointer, bool* still_imported) {
  const auto found = allocations_.find(pointer);
  if (found == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
  const auto backing = backings_.find(found->second.backing);
  const size_t offset = pointer - ToPointer(backing->second.mapping.address);
  const size_t bytes = found->second.size;
  allocations_.erase(found);
  *still_imported = false;
  // A shared backing goes back to the card with its last allocation.
  if (backing->second.shared && !FreeRange(backing->second, offset, bytes)) return CUDA_SUCCESS;
  *still_imported = !card_.Free(backing->second.mapping);
  backings_.erase(backing);
  return CUDA_SUCCESS;
}

bool DeviceMemory::FreeRange(OwnBacking& backing, size_t offset, size_t bytes) {
  // Joined with the free ranges before and after it, so that a backing without allocations is one
  // range of kPage.
  size_t length = RoundedSmall(bytes);
  const auto after = backing.free.lower_bound(offset);
  if (after != backing.free.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      offset = before->first;
      length += before->second;
      backing.free.erase(before);
    }
  }
  if (after != backing.free.end() && after->first == offset + length) {
    length += after->second;
    backing.free.erase(after);
  }
  backing.free[offset] = length;
  return length == kPage.value();
}

CUresult DeviceMemory::Export(CUdeviceptr pointer, CUipcMemHandle* handle) {
  const std::optional<MemoryRange> range = Find(pointer);
  const auto found = range ? allocations_.find(range->base) : allocations_.end();
  if (found == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
  const Mapping& mapping = backings_.at(found->second.backing).mapping;
  const Handle named = {.magic = kHandleMagic,
                        .pid = card_.pid(),
                        .object = mapping.slot,
                        .start_time = card_.start_time(),
                        .id = mapping.id,
                        .backing_size = mapping.bytes,
                        .offset = range->base - ToPointer(mapping.address),
                        .size = range->size,
                        .unused = 0};
  std::memcpy(handle->reserved, &named, sizeof(named));
  return CUDA_SUCCESS;
}

CUresult DeviceMemory::Import(const CUipcMemHandle& handle, CUdeviceptr* pointer) {
  Handle named = {};
  std::memcpy(&named, handle.reserved, sizeof(named));
  if (named.magic != kHandleMagic) return CUDA_ERROR_INVALID_VALUE;
  // The real driver refuses a handle in the process that exported it.
  if (named.pid == card_.pid() && named.start_time == card_.start_time()) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  // An import that is open opens again, also when its exporter is dead or has freed the memory: the
  // real driver does not ask the exporter again.
  const auto imported = imports_.find(named.id);
  if (imported != imports_.end() && OpenAgain(named, named.id, pointer)) return CUDA_SUCCESS;
  Mapping mapping;
  const CUresult result = card_.Import(named, &mapping);
  if (result != CUDA_SUCCESS) return result;
  // The handle may name a newer backing than its id says, see Handle. So the id of the mapping
  // decides whether this backing is imported already. If so, the second import is ended.
  const auto [known, is_new] = imports_.try_emplace(mapping.id, ImportedBacking{mapping, 0});
  if (!is_new) {
    card_.EndImport(mapping);
    if (OpenAgain(named, mapping.id, pointer)) return CUDA_SUCCESS;
  }
  *pointer = ToPointer(known->second.mapping.address + named.offset);
  opened_[*pointer] = Opened{named.size, mapping.id, 1};
  ++known->second.pointers;
  return CUDA_SUCCESS;
}

bool DeviceMemory::OpenAgain(const Handle& handle, uint64_t backing, CUdeviceptr* pointer) {
  const CUdeviceptr wanted = ToPointer(imports_.at(backing).mapping.address) + handle.offset;
  const auto again = opened_.find(wanted);
  if (again == opened_.end()) return false;
  ++again->second.opens;
  *pointer = wanted;
  return true;
}

CUresult DeviceMemory::CloseImport(CUdeviceptr pointer) {
  const auto found = opened_.find(pointer);
  if (found == opened_.end()) return CUDA_ERROR_INVALID_VALUE;
  if (--found->second.opens > 0) return CUDA_SUCCESS;
  const auto import = imports_.find(found->second.backing);
  opened_.erase(found);
  // Other pointers into the same backing may still be open.
  if (--import->second.pointers > 0) return CUDA_SUCCESS;
  card_.EndImport(import->second.mapping);
  imports_.erase(import);
  return CUDA_SUCCESS;
}

std::optional<MemoryRange> DeviceMemory::Find(CUdeviceptr pointer) const {
  const auto search = [pointer](const auto& ranges) -> std::optional<MemoryRange> {
    const auto after = ranges.upper_bound(pointer);
    if (after == ranges.begin()) return std::nullopt;
    const auto& [base, range] = *std::prev(after);
    if (pointer - base >= range.size) return std::nullopt;
    return MemoryRange{base, range.size};
  };
  const std::optional<MemoryRange> own = search(allocations_);
  return own ? own : search(opened_);
}

void DeviceMemory::ReleaseAll() {
  // The counts of opens do not matter: the context ends, and every pointer with it.
  for (const auto& [id, import] : imports_) card_.EndImport(import.mapping);
  for (const auto& [id, backing] : backings_) card_.Free(backing.mapping);
  imports_.clear();
  opened_.clear();
  allocations_.clear();
  backings_.clear();
}

}  // namespace tenure::cuda::emulated
