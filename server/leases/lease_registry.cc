#include "server/leases/lease_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/status_macros.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {

LeaseRegistry::LeaseRegistry(DeviceHeap& heap, Quarantine& quarantine, LeaseJournal& journal,
                             const Clock& clock, const Options& options)
    : heap_(heap),
      quarantine_(quarantine),
      journal_(journal),
      clock_(clock),
      options_(options),
      sessions_(options.epoch),
      allocations_(options.epoch),
      segments_(options.epoch),
      // Half a lease time, so that a client that renews after a third of it, as the contract asks,
      // is not suspended by a pause of the daemon, however short its lease is.
      watched_(clock.Now(), std::min(kLongestLook, options.lease_ttl / 2)) {}

LeaseRegistry::~LeaseRegistry() {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_CHECK(sessions_.size() == 0);
}

absl::StatusOr<LeaseRegistry::Session*> LeaseRegistry::Find(const Peer& caller, SessionId id) {
  Session* const session = sessions_.Find(id);
  // A process that has changed its user id since then may belong to another user now.
  if (session != nullptr && session->lease->peer()->key() == caller.key() &&
      session->lease->peer()->uid() == caller.uid()) {
    return session;
  }
  // After the search: a restored session has an id of an earlier epoch.
  TENURE_RETURN_IF_ERROR(CheckEpoch(id));
  return UnknownSession(id);
}

absl::Status LeaseRegistry::CheckEpoch(uint64_t id) const {
  // No life of the daemon has epoch 0: a number like 0 was never an id, and the caller says so.
  if (EpochOf(id) == options_.epoch || EpochOf(id) == 0) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrCat("id ", id,
                   " is not of this life of the daemon: it was restarted, and the id names nothing "
                   "any more; open a new session and allocate anew"));
}

LeaseRegistry::Session LeaseRegistry::MakeSession(std::shared_ptr<Lease> lease,
                                                  uint64_t open_request,
                                                  std::shared_ptr<SessionPool> pool) const {
  Session session;
  session.lease = std::move(lease);
  session.open_request = open_request;
  session.opened = clock_.Now();
  session.deadline = watched_.At(session.opened) + options_.lease_ttl;
  session.keep_alives_since = session.opened;
  session.pool = std::move(pool);
  return session;
}

void LeaseRegistry::IndexSession(SessionId id) {
  const Session& session = *sessions_.Find(id);
  const Peer& peer = *session.lease->peer();
  deadlines_.Add({session.deadline, id});
  const Tenant tenant = peer.tenant();
  by_process_[peer.key()].insert({session.open_request, id});
  ++by_tenant_[tenant];
  if (!first_tenant_) first_tenant_ = tenant;
  if (second_tenant_seen_ || *first_tenant_ == tenant) return;
  // Reported once: a line for each later session would fill the log.
  second_tenant_seen_ = true;
  options_.on_second_tenant(tenant);
}

LeaseRegistry::Ended LeaseRegistry::TakeSession(SessionId id) {
  Ended ended{id, sessions_.Take(id)};
  const Peer& peer = *ended.session.lease->peer();
  deadlines_.Remove({ended.session.deadline, id}, peer.key());
  // No empty entries stay: processes and users come and go for as long as the daemon lives.
  const auto of_process = by_process_.find(peer.key());
  of_process->second.erase({ended.session.open_request, id});
  if (of_process->second.empty()) by_process_.erase(of_process);
  const auto of_tenant = by_tenant_.find(peer.tenant());
  if (--of_tenant->second == 0) by_tenant_.erase(of_tenant);
  return ended;
}

void LeaseRegistry::ReturnBlocks(Ended ended) {
  const absl::flat_hash_set<AllocationId>& allocations = ended.session.allocations;
  for (auto next = allocations.begin(); next != allocations.end();) {
    // Declared before the lock: the blocks return to their pool after the lock has ended.
    std::vector<Block> blocks;
    blocks.reserve(kMostUnderLock);
    cuda::NoDriverCallsLock lock(&mu_);
    for (; blocks.size() < kMostUnderLock && next != allocations.end(); ++next) {
      blocks.push_back(std::move(allocations_.Take(*next).block));
      SubtractBytes(ended.session, blocks.back());
    }
  }
}

void LeaseRegistry::AddBytes(Session& session, const Block& block) {
  session.allocated += block.size();
  session.requested += block.requested();
  totals_.allocated += block.size();
  totals_.requested += block.requested();
}

void LeaseRegistry::SubtractBytes(Session& session, const Block& block) {
  session.allocated -= block.size();
  session.requested -= block.requested();
  totals_.allocated -= block.size();
  totals_.requested -= block.requested();
}

}  // namespace tenure::server
