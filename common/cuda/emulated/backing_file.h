// The file behind one piece of emulated device memory. It has a name, so that any process that is
// given a handle can open it; it is sparse, so that only bytes written cost the host anything.
//
// Thread safety: all callers hold the card's lock, so nobody opens what another one is removing.
// Source: mmap(2).
#ifndef COMMON_CUDA_EMULATED_BACKING_FILE_H_
#define COMMON_CUDA_EMULATED_BACKING_FILE_H_

#include <cstddef>
#include <cstdint>

namespace tenure::cuda::emulated {

// A mapped file of `bytes`, at a multiple of 2 MiB as the real driver places memory; null when it
// could not be mapped.
void* CreateBackingFile(int folder, uint64_t id, size_t bytes);
void* MapBackingFile(int folder, uint64_t id, size_t bytes);

// Removes the name. The bytes stay until the last mapping goes, which frees them by itself.
void RemoveBackingFile(int folder, uint64_t id);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_BACKING_FILE_H_
