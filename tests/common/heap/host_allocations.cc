#include "tests/common/heap/host_allocations.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
std::atomic<uint64_t> allocations = 0;
}  // namespace

// Replaced for the whole program, in a file of their own: where the compiler sees both, it takes
// std::free in the one for a mistake, since it may leave out calls of the other.
void* operator new(size_t size) {
  ++allocations;
  void* const memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tenure {

uint64_t HostAllocations() { return allocations; }

}  // namespace tenure
