// The file behind one piece of emulated device memory.
#ifndef COMMON_CUDA_EMULATED_BACKING_FILE_H_
#define COMMON_CUDA_EMULATED_BACKING_FILE_H_

#include <cstddef>
#include <cstdint>

#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// The file has a name, so that each process with a handle can open it. It is sparse, so that only
// bytes that were written take memory of the host. Its pages are the device memory: they live as
// long as the name or a mapping does, also when the process that made them is dead.
//
// Thread safety: the card's lock is held during each call, so no process opens a file that another
// one is removing.
// Source: mmap(2); fcntl(2), open file description locks.

// A mapped file of `bytes`, at a multiple of 2 MiB as the real driver places memory; null when it
// could not be mapped.
void* CreateBackingFile(int folder, uint64_t id, size_t bytes);
void* MapBackingFile(int folder, uint64_t id, size_t bytes);

// The same for memory that descriptors name. It is mapped without access, and not in children that
// this process forks. Other users can open the file by its name for reading only. That is enough to
// ask for its locks, and not enough to import it.
void* CreateDescribedFile(int folder, uint64_t id, size_t bytes, uint64_t* inode);
// A descriptor of such memory. It carries a shared lock, which lives as long as a copy of the
// descriptor is open in any process.
UniqueFd OpenDescriptor(int folder, uint64_t id);
// Whether any process has such a descriptor open: whether the file has a lock.
bool HasDescriptor(int folder, uint64_t id);
// Maps as CreateDescribedFile does. The mapping counts as a copy of the descriptor.
void* MapDescriptor(int descriptor, size_t bytes);

// Removes the name. The kernel frees the bytes with the last mapping.
void RemoveBackingFile(int folder, uint64_t id);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_BACKING_FILE_H_
