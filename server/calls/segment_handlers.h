// The handlers of tenure.v1.Allocator that work on segments.
#ifndef SERVER_CALLS_SEGMENT_HANDLERS_H_
#define SERVER_CALLS_SEGMENT_HANDLERS_H_

#include "absl/status/status.h"

#include "server/identity/peer.h"
#include "server/leases/lease_registry.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure::server {

// Check the fields of a request, call the lease registry, and fill the response, as
// AllocatorHandlers does.
//
// Borrows: the registry.
// Thread safety: thread-safe.
// Errors: INVALID_ARGUMENT: the message itself is wrong; PERMISSION_DENIED: the segment belongs to
//     another user; else as the lease registry.
class SegmentHandlers {
 public:
  explicit SegmentHandlers(LeaseRegistry& registry) : registry_(registry) {}

  absl::Status Publish(const Peer& caller, const v1::PublishSegmentRequest& request,
                       v1::PublishSegmentResponse& response);
  absl::Status Attach(const Peer& caller, const v1::AttachSegmentRequest& request,
                      v1::AttachSegmentResponse& response);
  // `prepaid`: as in AllocatorHandlers.
  absl::Status Detach(const Peer& caller, const v1::DetachSegmentRequest& request,
                      v1::DetachSegmentResponse& response, bool& prepaid);
  absl::Status Unpublish(const Peer& caller, const v1::UnpublishSegmentRequest& request,
                         v1::UnpublishSegmentResponse& response, bool& prepaid);

 private:
  LeaseRegistry& registry_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_SEGMENT_HANDLERS_H_
