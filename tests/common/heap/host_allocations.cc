#include "tests/common/heap/host_allocations.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
std::atomic<uint64_t> allocations = 0;
}  // namespace

// operator new and delete, replaced for the whole program. They stand in a file of their own: if
// the compiler saw them beside their calls, it would warn that std::free does not match operator
// new.
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
