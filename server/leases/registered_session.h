// The sessions and allocations of the lease registry, as values.
#ifndef SERVER_LEASES_REGISTERED_SESSION_H_
#define SERVER_LEASES_REGISTERED_SESSION_H_

#include <cstdint>
#include <memory>

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
  // The free keep-alives since `keep_alives_since`, within one lease time.
  BootTime keep_alives_since;
  size_t keep_alives = 0;
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

// An ended session, whose blocks are still in the registry's table. To be destroyed without the
// lock: the pool's regions return to the heap or to the quarantine then.
struct EndedSession {
  SessionId id = 0;
  RegisteredSession session;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_REGISTERED_SESSION_H_
