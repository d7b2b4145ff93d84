// Address ranges of this process that stand for device addresses.
//
// Source: mmap(2), mremap(2).
#ifndef COMMON_CUDA_EMULATED_ADDRESS_RANGE_H_
#define COMMON_CUDA_EMULATED_ADDRESS_RANGE_H_

#include <cstddef>

namespace tenure::cuda::emulated {

// Addresses that nobody else gets and nobody can access; null when there are none.
char* ReserveAddresses(size_t bytes, size_t alignment);
void FreeAddresses(char* address, size_t bytes);

// Maps the file that is mapped at `memory` also at `address`, with the same protection. False: the
// host refused, and `address` is reserved as before.
bool MapAgain(char* memory, size_t bytes, char* address);
// Leaves the addresses reserved.
void UnmapAddresses(char* address, size_t bytes);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_ADDRESS_RANGE_H_
