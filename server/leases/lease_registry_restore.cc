// What an earlier life of the daemon left.
#include <utility>

#include "common/check.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {

void LeaseRegistry::Restore(RestoredSession restored) {
  const Tenant tenant = restored.peer->tenant();
  const ProcessKey process = restored.peer->key();
  cuda::NoDriverCallsLock lock(&mu_);
  Session session;
  session.lease =
      std::make_shared<Lease>(std::move(restored.peer), std::move(restored.name), clock_);
  session.lease->set_journaled();
  session.open_request = restored.open_request;
  session.opened = clock_.Now();
  session.deadline = session.opened + options_.lease_ttl;
  session.pool = SessionPool::Create(heap_, tenant, options_.max_pool_block);
  session.requests = std::move(restored.requests);
  for (RestoredSession::RegionWithBlocks& one : restored.regions) {
    std::vector<Block> blocks = session.pool->Restore(std::move(one.region), one.blocks);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const Bytes size = blocks[i].size();
      const Bytes requested = blocks[i].requested();
      allocations_.Restore(one.allocations[i],
                           Allocation{restored.id, session.opened, std::move(blocks[i])});
      session.allocations.insert(one.allocations[i]);
      session.allocated += size;
      session.requested += requested;
      totals_.allocated += size;
      totals_.requested += requested;
    }
  }
  sessions_.Restore(restored.id, std::move(session));
  by_process_[process].push_back(restored.id);
  ++by_tenant_[tenant];
  NoteTenant(tenant);
}

void LeaseRegistry::Restore(const SegmentKey& key, Segment segment) {
  cuda::NoDriverCallsLock lock(&mu_);
  segment.published = clock_.Now();
  segment.journaled = true;
  segments_.Publish(key, std::move(segment));
}

void LeaseRegistry::Restore(AttachmentId attachment, const SegmentKey& key, SessionId session) {
  cuda::NoDriverCallsLock lock(&mu_);
  segments_.Restore(attachment, key, session);
}

void LeaseRegistry::RestoreClaim(const SegmentKey& key, SessionId session) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_CHECK(segments_.Claim(key, session));
}

}  // namespace tenure::server
