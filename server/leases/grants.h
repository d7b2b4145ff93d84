// Grants: a session's blocks and segments, in the form in which its client learns of them.
#ifndef SERVER_LEASES_GRANTS_H_
#define SERVER_LEASES_GRANTS_H_

#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "common/bytes.h"
#include "common/cuda/ipc_handle.h"
#include "common/memory_kind.h"
#include "server/identity/ids.h"
#include "server/leases/segment.h"

namespace tenure::server {

// An allocation of a session: one block, and the region that the client maps to reach it.
struct Grant {
  AllocationId allocation = 0;
  RegionId region = 0;
  Bytes region_size;
  Bytes offset;
  Bytes size;
  MemoryKind kind = MemoryKind::kCudaIpc;
  cuda::IpcHandle handle;  // of kind CUDA_IPC
};

// A segment to which a session is attached.
struct SegmentGrant {
  struct Block {
    RegionId region = 0;
    Bytes region_size;
    Bytes size;
    MemoryKind kind = MemoryKind::kCudaIpc;
    cuda::IpcHandle handle;  // of kind CUDA_IPC
  };
  AttachmentId attachment = 0;
  std::shared_ptr<const SegmentNotes> notes;
  std::vector<Block> blocks;
  bool survives_daemon = false;
};

// The answer to a session that asks to load a segment which is not published.
enum class SegmentClaim {
  kGranted,      // this session has claimed the name and loads the segment
  kHeldByOther,  // another session is loading it
};

// A block of a segment, named by the attachment that gives the session access to it.
struct SegmentBlockName {
  AttachmentId attachment = 0;
  uint32_t block = 0;
};

// Names a region by a session and by that which the session holds in it: an allocation, or a block
// of a segment that it is attached to.
struct RegionName {
  SessionId session = 0;
  std::variant<AllocationId, SegmentBlockName> holding;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_GRANTS_H_
