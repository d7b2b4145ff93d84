// A count of the host allocations of a test program.
#ifndef TESTS_COMMON_HEAP_HOST_ALLOCATIONS_H_
#define TESTS_COMMON_HEAP_HOST_ALLOCATIONS_H_

#include <cstdint>

namespace tenure {

// How many times this program has called operator new.
uint64_t HostAllocations();

}  // namespace tenure

#endif  // TESTS_COMMON_HEAP_HOST_ALLOCATIONS_H_
