// The edge of Allocate: from an untrusted message to a request that the pools may rely on.
#ifndef SERVER_CALLS_BLOCK_REQUEST_H_
#define SERVER_CALLS_BLOCK_REQUEST_H_

#include "absl/status/statusor.h"

#include "common/bytes.h"
#include "server/memory/session_pool.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure::server {

// What the daemon promises between its users.
enum class Isolation {
  kTenant,  // CUDA_IPC by default: keeps accidents of one user from another, and no attacks
  kStrict,  // VMM_FD only: a process gets what the daemon gave it, and nothing else
};

// Checks every field once. INVALID_ARGUMENT for what no device could grant: size 0, an alignment
// that is no power of two or above 2 MiB, an unknown placement or memory kind or one that the
// isolation does not grant, request id 0.
// RESOURCE_EXHAUSTED for more than the device has in all.
absl::StatusOr<BlockRequest> ParseBlockRequest(const v1::AllocateRequest& request,
                                               Bytes device_total, Isolation isolation);

}  // namespace tenure::server

#endif  // SERVER_CALLS_BLOCK_REQUEST_H_
