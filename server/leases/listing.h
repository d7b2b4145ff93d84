// The records that the registry lists: sessions, allocations, segments and totals.
#ifndef SERVER_LEASES_LISTING_H_
#define SERVER_LEASES_LISTING_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "common/bytes.h"
#include "common/memory_kind.h"
#include "server/identity/ids.h"
#include "server/identity/segment_key.h"
#include "server/leases/lease.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

struct SessionInfo {
  SessionId id = 0;
  std::shared_ptr<const Lease> lease;
  absl::Duration age;
  absl::Duration lease_left;  // in watched time; negative when the keep-alive is overdue
  uint64_t allocations = 0;
  Bytes allocated;
  Bytes requested;
  std::shared_ptr<const SessionPool> pool;
};

struct AllocationInfo {
  AllocationId id = 0;
  SessionId session = 0;
  pid_t pid = 0;
  RegionId region = 0;
  Bytes offset;
  Bytes size;
  Bytes requested;
  bool direct = false;
  MemoryKind kind = MemoryKind::kCudaIpc;
  absl::Duration age;
};

// A published segment, or a name that a session has claimed. Of a claimed name only `key` and
// `loading` are set.
struct SegmentInfo {
  SegmentKey key;
  std::vector<uid_t> allowed;
  std::string digest;
  MemoryKind kind = MemoryKind::kCudaIpc;
  bool survives_daemon = false;
  Bytes size;
  uint64_t blocks = 0;
  uint64_t tensors = 0;
  absl::Duration age;
  std::vector<SessionId> attached;
  SessionId loading = 0;  // the session that has claimed the name
};

// A process with suspended sessions.
struct OverdueProcess {
  std::shared_ptr<const Peer> peer;
  absl::Duration by;  // how long the first of them has been overdue
};

// Counters since the start of the daemon, and sums over the present holdings.
struct LeaseTotals {
  uint64_t active_sessions = 0;
  uint64_t suspended_sessions = 0;
  uint64_t active_allocations = 0;
  Bytes allocated;
  Bytes requested;
  uint64_t allocations = 0;
  uint64_t refused_allocations = 0;
  uint64_t frees = 0;
  uint64_t reclaimed_allocations = 0;
  uint64_t sessions_opened = 0;
  uint64_t sessions_reclaimed = 0;
  uint64_t segments = 0;
  uint64_t attachments = 0;
  Bytes segment_bytes;  // of the segments' regions
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LISTING_H_
