// Restoring sessions, segments, attachments and claims of an earlier life of the daemon.
#include <utility>

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

void LeaseRegistry::RestoreSession(RestoredSession restored) {
  const Tenant tenant = restored.peer->tenant();
  cuda::NoDriverCallsLock lock(&mu_);
  Session session = MakeSession(
      std::make_shared<Lease>(std::move(restored.peer), std::move(restored.name), clock_),
      restored.open_request, SessionPool::Create(heap_, tenant, options_.max_pool_block));
  session.requests = std::move(restored.requests);
  // Under the ids that clients and the journal know. Their time begins now, because the journal has
  // no times: a client that is alive has a whole lease time to send its keep-alive.
  for (RestoredSession::RegionWithBlocks& one : restored.regions) {
    std::vector<Block> blocks = session.pool->Restore(std::move(one.region), one.blocks);
    for (size_t i = 0; i < blocks.size(); ++i) {
      AddBytes(session, blocks[i]);
      session.allocations.insert(one.allocations[i]);
      allocations_.Restore(one.allocations[i],
                           Allocation{restored.id, session.opened, std::move(blocks[i])});
    }
  }
  sessions_.Restore(restored.id, std::move(session));
  IndexSession(restored.id);
  // Or the next record about the session would open it a second time.
  journal_.SessionRestored(restored.id);
}

void LeaseRegistry::RestoreSegment(const SegmentKey& key, Segment segment) {
  cuda::NoDriverCallsLock lock(&mu_);
  segment.published = clock_.Now();
  segments_.Publish(key, std::move(segment));
}

void LeaseRegistry::RestoreAttachment(AttachmentId attachment, const SegmentKey& key,
                                      SessionId session) {
  cuda::NoDriverCallsLock lock(&mu_);
  segments_.RestoreAttachment(attachment, key, session);
}

void LeaseRegistry::RestoreClaim(const SegmentKey& key, SessionId session) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_CHECK(segments_.Claim(key, session));
}

}  // namespace tenure::server
