// Checks the untrusted message of an Allocate and turns it into a request for the pools.
#ifndef SERVER_CALLS_BLOCK_REQUEST_H_
#define SERVER_CALLS_BLOCK_REQUEST_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/bytes.h"
#include "server/memory/session_pool.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure::server {

// Which isolation between users the daemon promises.
enum class Isolation {
  kTenant,  // CUDA_IPC by default: protects users from accidents of others, not from attacks
  kStrict,  // VMM_FD only: a process can map only the regions that the daemon granted to it
};

// A request id makes a repeated request take effect once, so 0 is none.
// Errors: INVALID_ARGUMENT: the id is 0.
absl::Status CheckRequestId(uint64_t request_id);

// Checks every field once, and fills in the defaults: an alignment of 256 bytes, automatic
// placement, and the memory kind of the isolation.
// Errors: INVALID_ARGUMENT: request id 0; size 0; an alignment that is no power of two, or above
//     2 MiB; an unknown placement or memory kind, or a kind that the isolation does not grant.
//     RESOURCE_EXHAUSTED: the size is larger than the whole device.
absl::StatusOr<BlockRequest> ParseBlockRequest(const v1::AllocateRequest& request,
                                               Bytes device_total, Isolation isolation);

}  // namespace tenure::server

#endif  // SERVER_CALLS_BLOCK_REQUEST_H_
