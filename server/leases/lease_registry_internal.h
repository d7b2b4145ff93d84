// Errors and a conversion that several source files of LeaseRegistry share.
#ifndef SERVER_LEASES_LEASE_REGISTRY_INTERNAL_H_
#define SERVER_LEASES_LEASE_REGISTRY_INTERNAL_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/cuda/ipc_handle.h"
#include "common/memory_kind.h"
#include "server/memory/region.h"

namespace tenure::server {

// How many sessions, attachments, blocks or rows one hold of the registry's lock handles: some ten
// microseconds. Other callers get the lock before the next ones.
inline constexpr size_t kMostUnderLock = 64;

// The handle that a grant carries: empty for a region of kind VMM_FD, which has a descriptor
// instead.
inline cuda::IpcHandle HandleOf(const Region& region) {
  return region.kind() == MemoryKind::kCudaIpc ? region.handle() : cuda::IpcHandle();
}

inline absl::Status UnknownSession(uint64_t id) {
  return absl::NotFoundError(absl::StrCat("this process has no session ", id,
                                          "; open one with tenure.v1.Allocator/OpenSession"));
}

inline absl::Status UnknownAllocation(uint64_t id) {
  return absl::NotFoundError(absl::StrCat("this session holds no allocation ", id,
                                          "; `tenurectl ls` lists its allocations"));
}

inline absl::Status Draining() {
  return absl::UnavailableError(
      "the daemon is draining and grants nothing new; repeat the call when another one is here");
}

inline absl::Status Suspended(uint64_t session) {
  return absl::FailedPreconditionError(
      absl::StrCat("session ", session,
                   " is suspended: its keep-alive is overdue; send KeepAlive, then repeat"));
}

inline absl::Status RequestIdTaken(uint64_t request_id) {
  return absl::FailedPreconditionError(absl::StrCat(
      "request id ", request_id, " was used for another request of this session; make a new one"));
}

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_REGISTRY_INTERNAL_H_
