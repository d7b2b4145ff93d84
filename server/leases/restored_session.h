// A session of an earlier life of the daemon, on its way into the registry.
#ifndef SERVER_LEASES_RESTORED_SESSION_H_
#define SERVER_LEASES_RESTORED_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/identity/request_window.h"
#include "server/memory/region.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

// A session with the regions that it still has, and the blocks in them.
struct RestoredSession {
  struct RegionWithBlocks {
    Region region;
    std::vector<AllocationId> allocations;  // one for each of the blocks
    std::vector<SessionPool::RestoredBlock> blocks;
  };
  SessionId id = 0;
  std::shared_ptr<const Peer> peer;
  std::string name;
  uint64_t open_request = 0;
  RequestWindow requests;
  std::vector<RegionWithBlocks> regions;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_RESTORED_SESSION_H_
