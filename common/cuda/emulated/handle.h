// The layout of an IPC handle of the emulated driver.
#ifndef COMMON_CUDA_EMULATED_HANDLE_H_
#define COMMON_CUDA_EMULATED_HANDLE_H_

#include <cstdint>

#include <cuda.h>

namespace tenure::cuda::emulated {

// The 64 bytes of an IPC handle. As on the real driver they can be guessed: they hold the
// exporter's pid, the size, a running index and a value that differs from process to process.
//
// A handle names a memory object of the exporter. The driver gives the number of a freed object to
// the next one: an old handle was seen to open memory that its exporter allocated later.
struct Handle {
  uint64_t magic;         // kHandleMagic: anything else is no handle
  int32_t pid;            // the exporter
  uint32_t object;        // index of a BackingSlot
  uint64_t start_time;    // the exporter's
  uint64_t id;            // BackingSlot::id when it was exported
  uint64_t backing_size;  // of the whole backing
  uint64_t offset;        // of the allocation in its backing
  uint64_t size;          // of the allocation
  uint64_t unused;
};

inline constexpr uint64_t kHandleMagic = 0x637069656e757465;  // "etuneipc"
static_assert(sizeof(Handle) == CU_IPC_HANDLE_SIZE);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_HANDLE_H_
