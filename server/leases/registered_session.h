// The sessions and allocations of the lease registry, as values.
#ifndef SERVER_LEASES_REGISTERED_SESSION_H_
#define SERVER_LEASES_REGISTERED_SESSION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "server/identity/ids.h"
#include "server/identity/request_window.h"
#include "server/leases/lease.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

// One session of the lease registry, and what it holds.
struct RegisteredSession {
  std::shared_ptr<Lease> lease;
  uint64_t open_request = 0;
  BootTime opened;
  absl::Duration deadline;  // in watched time
  std::shared_ptr<SessionPool> pool;
  absl::flat_hash_set<AllocationId> allocations;
  Bytes allocated;
  Bytes requested;
  RequestWindow requests;
};

struct RegisteredAllocation {
  SessionId session = 0;
  BootTime since;
  Block block;
};

// An ended session. To be destroyed without the lock: its blocks return to the pool then, and the
// pool's regions to the heap or to the quarantine.
struct EndedSession {
  SessionId id = 0;
  RegisteredSession session;
  std::vector<Block> blocks;  // destroyed before the pool
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_REGISTERED_SESSION_H_
