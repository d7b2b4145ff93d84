// What the calls of tenure.v1.Allocator about segments do.
#ifndef SERVER_SEGMENT_CALLS_H_
#define SERVER_SEGMENT_CALLS_H_

#include "absl/status/status.h"

#include "server/lease_registry.h"
#include "server/peer.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure::server {

// Translates as AllocatorCalls does.
//
// Borrows: the registry.
// Thread safety: thread-safe.
// Errors: INVALID_ARGUMENT for what is wrong in the message itself; PERMISSION_DENIED: somebody
//     else's segment; else as the lease registry.
class SegmentCalls {
 public:
  explicit SegmentCalls(LeaseRegistry& registry) : registry_(registry) {}

  absl::Status Publish(const Peer& caller, const v1::PublishSegmentRequest& request,
                       v1::PublishSegmentResponse& response);
  absl::Status Attach(const Peer& caller, const v1::AttachSegmentRequest& request,
                      v1::AttachSegmentResponse& response);
  absl::Status Detach(const Peer& caller, const v1::DetachSegmentRequest& request,
                      v1::DetachSegmentResponse& response);
  absl::Status Unpublish(const Peer& caller, const v1::UnpublishSegmentRequest& request,
                         v1::UnpublishSegmentResponse& response);

 private:
  LeaseRegistry& registry_;
};

}  // namespace tenure::server

#endif  // SERVER_SEGMENT_CALLS_H_
