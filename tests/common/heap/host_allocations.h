#ifndef TESTS_COMMON_HEAP_HOST_ALLOCATIONS_H_
#define TESTS_COMMON_HEAP_HOST_ALLOCATIONS_H_

#include <cstdint>

namespace tenure {

// How often this program has called operator new so far.
uint64_t HostAllocations();

}  // namespace tenure

#endif  // TESTS_COMMON_HEAP_HOST_ALLOCATIONS_H_
