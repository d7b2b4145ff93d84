// A leased block, as this process knows it.
#ifndef CLIENT_SESSION_LEASED_BLOCK_H_
#define CLIENT_SESSION_LEASED_BLOCK_H_

#include <cstdint>

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/memory_kind.h"

namespace tenure {

// A block that the daemon granted, and its address here. A plain value that frees nothing: the
// DeviceBuffer that holds it frees the block.
struct LeasedBlock {
  uint64_t allocation_id = 0;
  uint64_t region_id = 0;
  Bytes requested;
  Bytes size;  // as granted: at least `requested`
  Bytes region_size;
  cuda::DevicePointer pointer = 0;  // 0 in a process that maps nothing
  bool fills_region = false;        // no other block can lie in its region
  MemoryKind kind = MemoryKind::kCudaIpc;
  uint64_t restarts = 0;  // how often the daemon had been restarted in this session before
};

}  // namespace tenure

#endif  // CLIENT_SESSION_LEASED_BLOCK_H_
