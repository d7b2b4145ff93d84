#include "server/leases/lease_registry.h"

#include <fcntl.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {
namespace {

absl::Status UnknownSession(SessionId id) {
  return absl::NotFoundError(absl::StrCat("this process has no session ", id,
                                          "; open one with tenure.v1.Allocator/OpenSession"));
}

absl::Status StillUnderWay() {
  return absl::UnavailableError(
      "the same request is still under way; repeat it with the same request id");
}

}  // namespace

LeaseRegistry::LeaseRegistry(DeviceHeap& heap, Fence& fence, LeaseJournal& journal,
                             const Clock& clock, const Options& options)
    : heap_(heap),
      fence_(fence),
      journal_(journal),
      clock_(clock),
      options_(options),
      sessions_(options.epoch),
      allocations_(options.epoch),
      segments_(options.epoch) {}

LeaseRegistry::~LeaseRegistry() {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_CHECK(sessions_.size() == 0);
}

absl::StatusOr<SessionId> LeaseRegistry::Open(std::shared_ptr<const Peer> peer, uint64_t request_id,
                                              std::string name) {
  const Tenant tenant = peer->tenant();
  const ProcessKey process = peer->key();
  std::shared_ptr<SessionPool> pool = SessionPool::Create(heap_, tenant, options_.max_pool_block);
  auto lease = std::make_shared<Lease>(std::move(peer), std::move(name), clock_);
  cuda::NoDriverCallsLock lock(&mu_);
  const auto of_process = by_process_.find(process);
  if (of_process != by_process_.end()) {
    for (const SessionId id : of_process->second) {
      if (sessions_.Find(id)->open_request == request_id) return id;
    }
  }
  if (absl::Status limits = CheckLimits(tenant); !limits.ok()) return limits;
  Session session;
  session.lease = std::move(lease);
  session.open_request = request_id;
  session.opened = clock_.Now();
  session.deadline = session.opened + options_.lease_ttl;
  session.pool = std::move(pool);
  const SessionId id = *sessions_.Insert(std::move(session));
  by_process_[process].push_back(id);
  ++by_tenant_[tenant];
  ++totals_.sessions_opened;
  NoteTenant(tenant);
  return id;
}

void LeaseRegistry::NoteTenant(Tenant tenant) {
  if (!first_tenant_) first_tenant_ = tenant;
  if (second_tenant_seen_ || *first_tenant_ == tenant) return;
  second_tenant_seen_ = true;
  options_.on_second_tenant(tenant);
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

absl::Status LeaseRegistry::KeepAlive(const Peer& caller, SessionId id) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, id);
  if (!session.ok()) return session.status();
  (*session)->deadline = clock_.Now() + options_.lease_ttl;
  TENURE_CHECK((*session)->lease->On(LeaseEvent::kKeepAlive));
  return absl::OkStatus();
}

bool LeaseRegistry::IsSuspended(Session& session) const {
  if (clock_.Now() > session.deadline) session.lease->On(LeaseEvent::kOverdue);
  return session.lease->state() == LeaseState::kSuspended;
}

std::vector<OverdueSession> LeaseRegistry::SuspendOverdue() {
  cuda::NoDriverCallsLock lock(&mu_);
  std::vector<OverdueSession> overdue;
  const BootTime now = clock_.Now();
  sessions_.ForEach([&](SessionId id, Session& session) {
    mu_.AssertHeld();
    if (IsSuspended(session)) {
      overdue.push_back(OverdueSession{id, session.lease, now - session.deadline});
    }
    return true;
  });
  return overdue;
}

bool LeaseRegistry::Abandon(SessionId id) {
  std::optional<Ended> ended;
  cuda::NoDriverCallsLock lock(&mu_);
  Session* session = sessions_.Find(id);
  if (session == nullptr || !session->lease->On(LeaseEvent::kExeced)) return false;
  ended.emplace(Remove(id));
  journal_.SessionEnded(id, *ended->session.lease).IgnoreError();
  totals_.reclaimed_allocations += ended->allocations.size();
  ++totals_.sessions_reclaimed;
  return true;
}

void LeaseRegistry::Drain() {
  cuda::NoDriverCallsLock lock(&mu_);
  draining_ = true;
}

absl::Status LeaseRegistry::Close(const Peer& caller, SessionId id) {
  std::optional<Ended> ended;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const absl::StatusOr<Session*> session = Find(caller, id);
    if (!session.ok()) return session.status();
    TENURE_CHECK((*session)->lease->On(LeaseEvent::kClosed));
    ended.emplace(Remove(id));
    if (absl::Status noted = journal_.SessionEnded(id, *ended->session.lease); !noted.ok()) {
      return noted;
    }
    totals_.frees += ended->allocations.size();
  }
  ended->session.pool->End([this](std::vector<Region> regions) {
    for (Region& region : regions) heap_.Return(std::move(region), /*unmapped=*/true);
  });
  return absl::OkStatus();
}

LeaseRegistry::Admission::Admission(Admission&& other) noexcept
    : registry_(std::exchange(other.registry_, nullptr)),
      session_(other.session_),
      request_id_(other.request_id_),
      pool_(std::move(other.pool_)) {}

LeaseRegistry::Admission::~Admission() {
  if (registry_ != nullptr) registry_->Forget(session_, request_id_);
}

absl::StatusOr<std::variant<Grant, LeaseRegistry::Admission>> LeaseRegistry::Admit(
    const Peer& caller, SessionId id, uint64_t request_id) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, id);
  if (!session.ok()) return session.status();
  if (const RequestWindow::Request* before = (*session)->requests.Find(request_id)) {
    if (before->state == RequestWindow::State::kUnderWay) return StillUnderWay();
    Allocation* allocation = allocations_.Find(before->id);
    if (before->state != RequestWindow::State::kGranted || allocation == nullptr)
      return RequestIdTaken(request_id);
    return GrantOf(before->id, allocation->block);
  }
  if (draining_) return Draining();
  if (IsSuspended(**session)) return Suspended(id);
  (*session)->requests.Note(request_id, {RequestWindow::State::kUnderWay, 0});
  return Admission(this, id, request_id, (*session)->pool);
}

absl::StatusOr<std::vector<Grant>> LeaseRegistry::Attach(std::vector<Pending> pending) {
  TENURE_CHECK(!pending.empty());
  // `pending` goes after the lock does: blocks that find no session return unlocked.
  cuda::NoDriverCallsLock lock(&mu_);
  const SessionId id = pending.front().admission.session_;
  Session* session = sessions_.Find(id);
  absl::Status refusal;
  if (session == nullptr) {
    refusal = UnknownSession(id);
  } else if (allocations_.size() + pending.size() > kMaxSlots) {
    refusal = absl::ResourceExhaustedError(
        absl::StrCat("the daemon holds at most ", kMaxSlots,
                     " allocations at once; free some, or allocate fewer, larger ones"));
  }
  std::vector<Grant> grants;
  for (Pending& one : pending) {
    one.admission.registry_ = nullptr;
    if (refusal.ok()) {
      absl::StatusOr<Grant> grant = AttachOne(*session, std::move(one));
      if (!grant.ok()) return grant.status();
      grants.push_back(*grant);
    } else if (session != nullptr) {
      session->requests.Forget(one.admission.request_id_);
    }
  }
  if (!refusal.ok()) return refusal;
  return grants;
}

absl::StatusOr<std::vector<RegionId>> LeaseRegistry::Free(const Peer& caller, SessionId id,
                                                          uint64_t request_id,
                                                          AllocationId allocation, bool unmapped) {
  std::optional<Block> block;
  std::shared_ptr<SessionPool> pool;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const absl::StatusOr<Session*> session = Find(caller, id);
    if (!session.ok()) return session.status();
    if (const RequestWindow::Request* before = (*session)->requests.Find(request_id)) {
      if (before->state == RequestWindow::State::kFreed && before->id == allocation) {
        return std::vector<RegionId>();
      }
      return RequestIdTaken(request_id);
    }
    if (!(*session)->allocations.contains(allocation)) {
      absl::Status epoch = CheckEpoch(allocation);
      return epoch.ok() ? UnknownAllocation(allocation) : epoch;
    }
    block.emplace(Detach(allocation));
    if (block->region().kind() == MemoryKind::kVmmFd) {
      absl::Status noted = journal_.BlockFreed(id, allocation, request_id);
      if (!noted.ok()) return noted;
    }
    (*session)->requests.Note(request_id, {RequestWindow::State::kFreed, allocation});
    ++totals_.frees;
    pool = (*session)->pool;
  }
  if (unmapped) block->set_unmapped();
  block.reset();
  return pool->IdleRegions();
}

absl::StatusOr<UniqueFd> LeaseRegistry::Export(const Peer& caller, const RegionClaim& claim) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, claim.session);
  if (!session.ok()) return session.status();
  const auto* const allocation = std::get_if<AllocationId>(&claim.region);
  const absl::StatusOr<const Region*> region =
      allocation != nullptr ? FindRegion(**session, *allocation)
                            : FindRegion(claim.session, std::get<SegmentBlockName>(claim.region));
  if (!region.ok()) return region.status();
  if ((*region)->kind() != MemoryKind::kVmmFd) {
    return absl::FailedPreconditionError(
        absl::StrCat("region ", (*region)->id(), " is of kind ", NameOf((*region)->kind()),
                     ": its token has the handle, there is no descriptor"));
  }
  UniqueFd copy(fcntl((*region)->vmm().fd.get(), F_DUPFD_CLOEXEC, 0));
  if (copy) return copy;
  return absl::ResourceExhaustedError(
      "the daemon has no descriptor left to pass the region on; try again");
}

absl::StatusOr<const Region*> LeaseRegistry::FindRegion(const Session& session,
                                                        AllocationId allocation) const {
  if (session.allocations.contains(allocation)) {
    return &allocations_.Find(allocation)->block.region();
  }
  absl::Status epoch = CheckEpoch(allocation);
  return epoch.ok() ? UnknownAllocation(allocation) : epoch;
}

absl::StatusOr<uint32_t> LeaseRegistry::ReleaseRegions(const Peer& caller, SessionId id,
                                                       absl::Span<const RegionId> regions) {
  std::shared_ptr<SessionPool> pool;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const absl::StatusOr<Session*> session = Find(caller, id);
    if (!session.ok()) return session.status();
    pool = (*session)->pool;
  }
  return pool->Release(regions);
}

size_t LeaseRegistry::Reclaim(const ProcessKey& process) {
  std::deque<Ended> ended;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const auto found = by_process_.find(process);
    if (found == by_process_.end()) return 0;
    const std::vector<SessionId> ids = found->second;
    for (const SessionId id : ids) {
      ended.push_back(Remove(id));
      TENURE_CHECK(ended.back().session.lease->On(LeaseEvent::kExited));
      totals_.reclaimed_allocations += ended.back().allocations.size();
      ++totals_.sessions_reclaimed;
    }
  }
  for (Ended& dead : ended) {
    dead.session.pool->End(
        [this, id = dead.id, lease = dead.session.lease](std::vector<Region> regions) {
          fence_.Hold(id, lease, std::move(regions));
        });
  }
  return ended.size();
}

void LeaseRegistry::CloseAll() {
  std::deque<Ended> ended;
  cuda::NoDriverCallsLock lock(&mu_);
  std::vector<SessionId> ids;
  sessions_.ForEach([&](SessionId id, const Session&) {
    ids.push_back(id);
    return true;
  });
  for (const SessionId id : ids) {
    ended.push_back(Remove(id));
    TENURE_CHECK(ended.back().session.lease->On(LeaseEvent::kDrained));
    totals_.frees += ended.back().allocations.size();
  }
  for (SegmentBlock& block : segments_.TakeAll()) {
    heap_.Return(std::move(block.region), /*unmapped=*/false);
  }
}

void LeaseRegistry::CountRefusal() {
  cuda::NoDriverCallsLock lock(&mu_);
  ++totals_.refused_allocations;
}

absl::StatusOr<LeaseRegistry::Session*> LeaseRegistry::Find(const Peer& caller, SessionId id) {
  Session* const session = sessions_.Find(id);
  // A process that has become another user since is somebody else.
  if (session != nullptr && session->lease->peer()->key() == caller.key() &&
      session->lease->peer()->uid() == caller.uid()) {
    return session;
  }
  if (absl::Status epoch = CheckEpoch(id); !epoch.ok()) return epoch;
  return UnknownSession(id);
}

absl::Status LeaseRegistry::CheckEpoch(uint64_t id) const {
  if (EpochOf(id) == options_.epoch) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrCat("id ", id,
                   " is not of this life of the daemon: it was restarted, and what the "
                   "id named is gone; open a new session and allocate anew"));
}

Grant LeaseRegistry::GrantOf(AllocationId id, const Block& block) const {
  const Region& region = block.region();
  const MemoryKind kind = region.kind();
  return Grant{id,
               region.id(),
               region.size(),
               block.offset(),
               block.size(),
               kind,
               kind == MemoryKind::kCudaIpc ? region.handle() : cuda::IpcHandle()};
}

absl::StatusOr<Grant> LeaseRegistry::AttachOne(Session& session, Pending pending) {
  const SessionId session_id = pending.admission.session_;
  const Bytes size = pending.block.size();
  const Bytes requested = pending.block.requested();
  const AllocationId id =
      *allocations_.Insert(Allocation{session_id, clock_.Now(), std::move(pending.block)});
  session.requests.Note(pending.admission.request_id_, {RequestWindow::State::kGranted, id});
  session.allocations.insert(id);
  session.allocated += size;
  session.requested += requested;
  totals_.allocated += size;
  totals_.requested += requested;
  ++totals_.allocations;
  const Block& block = allocations_.Find(id)->block;
  if (block.region().kind() == MemoryKind::kVmmFd) {
    absl::Status noted = journal_.SessionOpened(session_id, session.open_request, *session.lease);
    if (noted.ok()) {
      noted = journal_.BlockGranted(session_id, id, pending.admission.request_id_, block);
    }
    if (!noted.ok()) return noted;
  }
  return GrantOf(id, block);
}

LeaseRegistry::Ended LeaseRegistry::Remove(SessionId id) {
  Ended ended{id, sessions_.Take(id), {}};
  for (const AllocationId allocation : ended.session.allocations) {
    ended.allocations.push_back(allocations_.Take(allocation));
  }
  EndInSegments(id);
  totals_.allocated -= ended.session.allocated;
  totals_.requested -= ended.session.requested;
  const Peer& peer = *ended.session.lease->peer();
  const auto of_process = by_process_.find(peer.key());
  std::erase(of_process->second, id);
  if (of_process->second.empty()) by_process_.erase(of_process);
  const auto of_tenant = by_tenant_.find(peer.tenant());
  if (--of_tenant->second == 0) by_tenant_.erase(of_tenant);
  return ended;
}

Block LeaseRegistry::Detach(AllocationId id) {
  Allocation allocation = allocations_.Take(id);
  Session& session = *sessions_.Find(allocation.session);
  session.allocations.erase(id);
  session.allocated -= allocation.block.size();
  session.requested -= allocation.block.requested();
  totals_.allocated -= allocation.block.size();
  totals_.requested -= allocation.block.requested();
  return std::move(allocation.block);
}

void LeaseRegistry::Forget(SessionId session, uint64_t request_id) {
  cuda::NoDriverCallsLock lock(&mu_);
  if (Session* found = sessions_.Find(session)) found->requests.Forget(request_id);
}

}  // namespace tenure::server
