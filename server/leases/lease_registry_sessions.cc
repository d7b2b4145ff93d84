// Sessions of the registry: how they open, stay alive and end.
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {

absl::StatusOr<SessionId> LeaseRegistry::Open(std::shared_ptr<const Peer> peer, uint64_t request_id,
                                              std::string name) {
  const Tenant tenant = peer->tenant();
  const ProcessKey process = peer->key();
  // Made before the lock is taken, so that they are also destroyed without it when they turn out
  // not to be needed.
  std::shared_ptr<SessionPool> pool = SessionPool::Create(heap_, tenant, options_.max_pool_block);
  auto lease = std::make_shared<Lease>(std::move(peer), std::move(name), clock_);
  cuda::NoDriverCallsLock lock(&mu_);
  const auto of_process = by_process_.find(process);
  if (of_process != by_process_.end()) {
    const auto before = of_process->second.lower_bound({request_id, 0});
    if (before != of_process->second.end() && before->first == request_id) return before->second;
  }
  TENURE_RETURN_IF_ERROR(CheckLimits(tenant));
  const SessionId id =
      *sessions_.Insert(MakeSession(std::move(lease), request_id, std::move(pool)));
  IndexSession(id);
  ++totals_.sessions_opened;
  return id;
}

absl::Status LeaseRegistry::CheckLimits(Tenant tenant) const {
  if (draining_) return Draining();
  if (sessions_.size() >= options_.max_sessions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the daemon serves at most ", options_.max_sessions,
                     " sessions at once; close some (`tenurectl ps`) or try later"));
  }
  const auto of_tenant = by_tenant_.find(tenant);
  if (of_tenant != by_tenant_.end() && of_tenant->second >= options_.max_tenant_sessions) {
    return absl::ResourceExhaustedError(absl::StrCat(
        tenant.ToString(), " has ", of_tenant->second,
        " sessions, which is as many as one tenant may have; close some (`tenurectl ps`), or raise "
        "--max-tenant-sessions"));
  }
  return absl::OkStatus();
}

absl::Status LeaseRegistry::KeepAlive(const Peer& caller, SessionId id, bool* prepaid) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
  deadlines_.Remove({session->deadline, id}, caller.key());
  session->deadline = WatchedNow() + options_.lease_ttl;
  deadlines_.Add({session->deadline, id});
  const BootTime now = clock_.Now();
  if (now - session->keep_alives_since >= options_.lease_ttl) {
    session->keep_alives_since = now;
    session->keep_alives = 0;
  }
  if (prepaid != nullptr) *prepaid = session->keep_alives < kFreeKeepAlives;
  if (session->keep_alives < kFreeKeepAlives) ++session->keep_alives;
  TENURE_CHECK(session->lease->On(LeaseEvent::kKeepAlive));
  return absl::OkStatus();
}

void LeaseRegistry::Drain() {
  cuda::NoDriverCallsLock lock(&mu_);
  draining_ = true;
}

bool LeaseRegistry::draining() const {
  cuda::NoDriverCallsLock lock(&mu_);
  return draining_;
}

absl::Status LeaseRegistry::Close(const Peer& caller, SessionId id) {
  std::optional<Ended> ended;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
    TENURE_CHECK(session->lease->On(LeaseEvent::kClosed));
    ended.emplace(TakeSession(id));
    totals_.frees += ended->session.allocations.size();
  }
  EndInSegments(id);
  // After the records about its attachments, and before the blocks return: after that their regions
  // may be granted to another session.
  const absl::Status recorded = journal_.SessionEnded(id);
  // The client closes its session after it has unmapped everything, so its regions may serve the
  // same tenant again. Without the record they go to the driver.
  if (recorded.ok()) {
    ended->session.pool->End([this](std::vector<Region> regions) {
      for (Region& region : regions) heap_.Return(std::move(region), /*unmapped=*/true);
    });
  }
  ReturnBlocks(*std::move(ended));
  return recorded;
}

size_t LeaseRegistry::Reclaim(const ProcessKey& process) {
  size_t sessions = 0;
  while (true) {
    std::optional<Ended> dead;
    {
      cuda::NoDriverCallsLock lock(&mu_);
      const auto found = by_process_.find(process);
      if (found == by_process_.end()) return sessions;
      dead.emplace(TakeSession(found->second.begin()->second));
      TENURE_CHECK(dead->session.lease->On(LeaseEvent::kExited));
      totals_.reclaimed_allocations += dead->session.allocations.size();
      ++totals_.sessions_reclaimed;
    }
    ++sessions;
    EndInSegments(dead->id);
    // The pool calls this function when its last block has come back: at the end of ReturnBlocks,
    // or later, when a call of the dead client is still taking a block from the driver. Only then
    // is the list of regions complete. The journal learns of the end in the quarantine, not here:
    // until there is proof, the next life of the daemon must keep these regions too.
    dead->session.pool->End(
        [this, id = dead->id, lease = dead->session.lease](std::vector<Region> regions) {
          quarantine_.Hold(id, lease, std::move(regions));
        });
    ReturnBlocks(*std::move(dead));
  }
}

void LeaseRegistry::CloseAll() {
  while (true) {
    std::optional<Ended> ended;
    {
      cuda::NoDriverCallsLock lock(&mu_);
      if (by_process_.empty()) break;
      ended.emplace(TakeSession(by_process_.begin()->second.begin()->second));
      TENURE_CHECK(ended->session.lease->On(LeaseEvent::kDrained));
      totals_.frees += ended->session.allocations.size();
    }
    EndInSegments(ended->id);
    ReturnBlocks(*std::move(ended));
  }
  // After the sessions: their end has ended all attachments and claims.
  std::vector<SegmentBlock> blocks;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    blocks = segments_.TakeAll();
  }
  for (SegmentBlock& block : blocks) heap_.Return(std::move(block.region), /*unmapped=*/false);
}

}  // namespace tenure::server
