// Address ranges of this process that stand for device addresses.
#ifndef COMMON_CUDA_EMULATED_ADDRESS_RANGE_H_
#define COMMON_CUDA_EMULATED_ADDRESS_RANGE_H_

#include <cstddef>

namespace tenure::cuda::emulated {

// Source: mmap(2), mremap(2).

// Reserves addresses: nothing else is mapped there, and an access faults. Null when no range is
// free.
char* ReserveAddresses(size_t bytes, size_t alignment);
void FreeAddresses(char* address, size_t bytes);

// Maps the file that is mapped at `memory` a second time, at `address`, with the same protection.
// False: the kernel refused, and `address` is reserved as before.
bool MapAgain(char* memory, size_t bytes, char* address);
// Ends the mapping. The addresses stay reserved.
void UnmapAddresses(char* address, size_t bytes);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_ADDRESS_RANGE_H_
