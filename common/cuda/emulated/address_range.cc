#include "common/cuda/emulated/address_range.h"

#include <sys/mman.h>

#include <cstdint>

#include "common/check.h"

namespace tenure::cuda::emulated {

// mmap(2) aligns to host pages only. So this maps more by one alignment, and unmaps the parts
// before and after the aligned range.
char* ReserveAddresses(size_t bytes, size_t alignment) {
  const size_t asked = bytes + alignment;
  if (asked < bytes) return nullptr;
  void* range = mmap(nullptr, asked, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return nullptr;
  char* start = static_cast<char*>(range);
  const size_t before = (alignment - reinterpret_cast<uintptr_t>(start) % alignment) % alignment;
  if (before > 0) munmap(start, before);
  munmap(start + before + bytes, alignment - before);
  return start + before;
}

void FreeAddresses(char* address, size_t bytes) { munmap(address, bytes); }

bool MapAgain(char* memory, size_t bytes, char* address) {
  // mremap(2) with an old size of zero does not move a shared mapping but makes a second one. The
  // file itself is not open any more, so mmap(2) cannot do it.
  if (mremap(memory, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, address) == address) return true;
  UnmapAddresses(address, bytes);
  return false;
}

void UnmapAddresses(char* address, size_t bytes) {
  // Mapped over, and not unmapped: after munmap(2) another thread's mmap(2) could get the
  // addresses.
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  TENURE_CHECK(mmap(address, bytes, PROT_NONE, flags, -1, 0) == address);
}

}  // namespace tenure::cuda::emulated
