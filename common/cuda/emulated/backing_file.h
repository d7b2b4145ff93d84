// The file behind one piece of emulated device memory. It has a name, so that any process that is
// given a handle can open it; it is sparse, so that only bytes written cost the host anything.
//
// Thread safety: all callers hold the card's lock, so nobody opens what another one is removing.
// Source: mmap(2); fcntl(2), open file description locks.
#ifndef COMMON_CUDA_EMULATED_BACKING_FILE_H_
#define COMMON_CUDA_EMULATED_BACKING_FILE_H_

#include <cstddef>
#include <cstdint>

#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// A mapped file of `bytes`, at a multiple of 2 MiB as the real driver places memory; null when it
// could not be mapped.
void* CreateBackingFile(int folder, uint64_t id, size_t bytes);
void* MapBackingFile(int folder, uint64_t id, size_t bytes);

// The same for memory that descriptors name: mapped without access and for this process alone, not
// for children that it forks. By its name other users can open it for reading only, which is enough
// to ask for its locks and makes no descriptor.
void* CreateDescribedFile(int folder, uint64_t id, size_t bytes, uint64_t* inode);
// A descriptor of it. Each carries a lock, which lives as long as any copy of the descriptor does,
// in whatever process: whoever wants to know whether there is one asks for the lock.
UniqueFd OpenDescriptor(int folder, uint64_t id);
bool HasDescriptor(int folder, uint64_t id);
// Maps as CreateDescribedFile does. The mapping counts as a copy of the descriptor.
void* MapDescriptor(int descriptor, size_t bytes);

// Removes the name. The bytes stay until the last mapping goes, which frees them by itself.
void RemoveBackingFile(int folder, uint64_t id);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_BACKING_FILE_H_
