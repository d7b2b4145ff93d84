// The handlers of tenure.v1.Allocator, except for those that work on segments.
#ifndef SERVER_CALLS_ALLOCATOR_HANDLERS_H_
#define SERVER_CALLS_ALLOCATOR_HANDLERS_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/background/reaper.h"
#include "server/calls/block_request.h"
#include "server/calls/ticket_table.h"
#include "server/identity/peer.h"
#include "server/leases/lease_registry.h"
#include "server/memory/session_pool.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure::server {

// Check the fields of a request, call the lease registry and the pools, and fill the response. They
// decide nothing about memory, and know neither gRPC nor threads, so that a test can make any
// request without a connection.
//
// Borrows: everything in Parts.
// Thread safety: thread-safe.
// Errors: INVALID_ARGUMENT: the message itself is wrong; else as the lease registry and the pools.
class AllocatorHandlers {
 public:
  struct Parts {
    LeaseRegistry& registry;
    Reaper& reaper;
    TicketTable& tickets;
    Bytes device_total;
    std::string device_uuid;
    std::string driver;
    Bytes max_pool_block;
    Isolation isolation = Isolation::kTenant;
    bool survives = false;  // memory of kind VMM_FD outlives this process
  };

  explicit AllocatorHandlers(Parts parts) : parts_(std::move(parts)) {}

  absl::Status OpenSession(const std::shared_ptr<const Peer>& caller,
                           const v1::OpenSessionRequest& request,
                           v1::OpenSessionResponse& response);
  // `prepaid`, here and below: set to true when the call renews a lease within its free
  // keep-alives, or gives back something that the caller held. It was paid for by the request that
  // granted it.
  absl::Status KeepAlive(const Peer& caller, const v1::KeepAliveRequest& request,
                         v1::KeepAliveResponse& response, bool& prepaid);
  absl::Status CloseSession(const Peer& caller, const v1::CloseSessionRequest& request,
                            v1::CloseSessionResponse& response, bool& prepaid);

  // An admitted allocation for which the session must grow.
  struct Growth {
    LeaseRegistry::Admission admission;
    BlockRequest wanted;
  };
  // An allocation in two steps. Allocate makes no driver call, and answers from the session's warm
  // regions. When they have no room it returns a Growth, and Grow, which may wait for the driver,
  // is to answer.
  absl::StatusOr<std::optional<Growth>> Allocate(const Peer& caller,
                                                 const v1::AllocateRequest& request,
                                                 v1::AllocateResponse& response);
  absl::Status Grow(Growth growth, v1::AllocateResponse& response);
  // Grants all requests or none. May wait for the driver.
  absl::Status AllocateBatch(const Peer& caller, const v1::AllocateBatchRequest& request,
                             v1::AllocateBatchResponse& response);

  absl::Status Free(const Peer& caller, const v1::FreeRequest& request, v1::FreeResponse& response,
                    bool& prepaid);
  // Frees each on its own; a failure of one stops no other. Prepaid if all of them are.
  absl::Status FreeBatch(const Peer& caller, const v1::FreeBatchRequest& request,
                         v1::FreeBatchResponse& response, bool& prepaid);
  absl::Status RequestRegionFd(const Peer& caller, const v1::RequestRegionFdRequest& request,
                               v1::RequestRegionFdResponse& response);
  absl::Status ReleaseRegions(const Peer& caller, const v1::ReleaseRegionsRequest& request,
                              v1::ReleaseRegionsResponse& response, bool& prepaid);

 private:
  absl::StatusOr<std::vector<BlockRequest>> ParseBatch(
      const v1::AllocateBatchRequest& request) const;
  // Makes the block an allocation of its session, and fills the response.
  absl::Status CommitOne(LeaseRegistry::Admission admission, Block block,
                         v1::AllocateResponse& response);
  // Counts a refusal for lack of memory; returns `why`.
  absl::Status Refuse(absl::Status why);
  absl::StatusOr<std::vector<RegionId>> FreeOne(const Peer& caller, const v1::FreeRequest& request,
                                                bool& prepaid);

  const Parts parts_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_ALLOCATOR_HANDLERS_H_
