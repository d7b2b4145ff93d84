// Allocations of the registry: admit, commit, free, export.
#include <fcntl.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/status_macros.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {
namespace {

absl::Status StillUnderWay() {
  return absl::UnavailableError(
      "the same request is still under way; repeat it with the same request id");
}

}  // namespace

LeaseRegistry::Admission::Admission(Admission&& other) noexcept
    : registry_(std::exchange(other.registry_, nullptr)),
      session_(other.session_),
      request_id_(other.request_id_),
      pool_(std::move(other.pool_)) {}

LeaseRegistry::Admission::~Admission() {
  if (registry_ != nullptr) registry_->ForgetRequest(session_, request_id_);
}

absl::StatusOr<std::variant<Grant, LeaseRegistry::Admission>> LeaseRegistry::Admit(
    const Peer& caller, SessionId id, uint64_t request_id) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
  if (const RequestWindow::Request* before = session->requests.Find(request_id)) {
    // Granting it twice would leak one block, so the repetition has to wait for the first.
    if (before->state == RequestWindow::State::kUnderWay) return StillUnderWay();
    Allocation* allocation = allocations_.Find(before->id);
    if (before->state != RequestWindow::State::kGranted || allocation == nullptr)
      return RequestIdTaken(request_id);
    return MakeGrant(before->id, allocation->block);
  }
  // After the window: a request that was granted gets its answer also while the daemon drains.
  if (draining_) return Draining();
  if (IsSuspended(id, *session)) return Suspended(id);
  session->requests.Note(request_id, {RequestWindow::State::kUnderWay, 0});
  return Admission(this, id, request_id, session->pool);
}

absl::StatusOr<std::vector<Grant>> LeaseRegistry::Commit(std::vector<Pending> pending) {
  TENURE_CHECK(!pending.empty());
  // A parameter is destroyed after the local variables, so blocks that are not committed return to
  // their pool after the lock has ended.
  cuda::NoDriverCallsLock lock(&mu_);
  const SessionId id = pending.front().admission.session_;
  Session* const session = sessions_.Find(id);
  absl::Status refusal;
  if (session == nullptr) {
    refusal = UnknownSession(id);
  } else if (allocations_.size() + pending.size() > kMaxSlots) {
    // Checked for all at once, so that CommitOne finds a slot for each.
    refusal = absl::ResourceExhaustedError(
        absl::StrCat("the daemon holds at most ", kMaxSlots,
                     " allocations at once; free some, or allocate fewer, larger ones"));
  }
  std::vector<Grant> grants;
  for (Pending& one : pending) {
    // The outcome of the request is noted here. Otherwise the destructor of the admission would
    // take the lock again to forget the request: a deadlock, because the argument of CommitOne is
    // destroyed under the lock.
    one.admission.registry_ = nullptr;
    if (refusal.ok()) {
      TENURE_ASSIGN_OR_RETURN(const Grant grant, CommitOne(*session, std::move(one)));
      grants.push_back(grant);
    } else if (session != nullptr) {
      session->requests.Forget(one.admission.request_id_);
    }
  }
  if (!refusal.ok()) return refusal;
  return grants;
}

absl::StatusOr<Grant> LeaseRegistry::CommitOne(Session& session, Pending pending) {
  const SessionId session_id = pending.admission.session_;
  const uint64_t request_id = pending.admission.request_id_;
  AddBytes(session, pending.block);
  const AllocationId id =
      *allocations_.Insert(Allocation{session_id, clock_.Now(), std::move(pending.block)});
  session.requests.Note(request_id, {RequestWindow::State::kGranted, id});
  session.allocations.insert(id);
  ++totals_.allocations;
  const Block& block = allocations_.Find(id)->block;
  if (journal_.Survives(block.region().kind())) {
    // After a failed write the client gets no answer, and the allocation stays in the books: the
    // health has failed too, so the daemon ends soon, and its next life does not know the block.
    TENURE_RETURN_IF_ERROR(journal_.BlockGranted(
        JournaledSession{session_id, session.open_request, *session.lease}, id, request_id, block));
  }
  return MakeGrant(id, block);
}

absl::StatusOr<std::vector<RegionId>> LeaseRegistry::Free(const Peer& caller, SessionId id,
                                                          uint64_t request_id,
                                                          AllocationId allocation, bool unmapped,
                                                          bool* prepaid) {
  std::optional<Block> block;
  std::shared_ptr<SessionPool> pool;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
    if (const RequestWindow::Request* before = session->requests.Find(request_id)) {
      if (before->state == RequestWindow::State::kFreed && before->id == allocation) {
        return std::vector<RegionId>();
      }
      return RequestIdTaken(request_id);
    }
    if (!session->allocations.contains(allocation)) {
      TENURE_RETURN_IF_ERROR(CheckEpoch(allocation));
      return UnknownAllocation(allocation);
    }
    // Moved out of the table here, and destroyed below, without the lock.
    block.emplace(TakeBlock(allocation));
    if (journal_.Survives(block->region().kind())) {
      TENURE_RETURN_IF_ERROR(journal_.BlockFreed(id, allocation, request_id));
    }
    session->requests.Note(request_id, {RequestWindow::State::kFreed, allocation});
    ++totals_.frees;
    if (prepaid != nullptr) *prepaid = true;
    pool = session->pool;
  }
  // The block goes back to its pool first: it may leave its region idle.
  if (unmapped) block->set_unmapped();
  block.reset();
  return pool->IdleRegions();
}

absl::StatusOr<UniqueFd> LeaseRegistry::Export(const Peer& caller, const RegionName& name) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_ASSIGN_OR_RETURN(const Session* const session, Find(caller, name.session));
  const auto* const allocation = std::get_if<AllocationId>(&name.holding);
  TENURE_ASSIGN_OR_RETURN(const Region* const region,
                          allocation != nullptr
                              ? FindRegion(*session, *allocation)
                              : FindRegion(name.session, std::get<SegmentBlockName>(name.holding)));
  if (region->kind() != MemoryKind::kVmmFd) {
    return absl::FailedPreconditionError(
        absl::StrCat("region ", region->id(), " is of kind ", NameOf(region->kind()),
                     ": its token has the handle, there is no descriptor"));
  }
  // The copy is made under the lock: the region, and with it the descriptor, may end right after.
  UniqueFd copy(fcntl(region->vmm().fd.get(), F_DUPFD_CLOEXEC, 0));
  if (copy) return copy;
  return absl::ResourceExhaustedError(
      "the daemon has no descriptor left to pass the region on; try again");
}

absl::StatusOr<const Region*> LeaseRegistry::FindRegion(const Session& session,
                                                        AllocationId allocation) const {
  if (session.allocations.contains(allocation)) {
    return &allocations_.Find(allocation)->block.region();
  }
  TENURE_RETURN_IF_ERROR(CheckEpoch(allocation));
  return UnknownAllocation(allocation);
}

absl::StatusOr<uint32_t> LeaseRegistry::ReleaseRegions(const Peer& caller, SessionId id,
                                                       absl::Span<const RegionId> regions) {
  std::shared_ptr<SessionPool> pool;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
    pool = session->pool;
  }
  // Without the lock: the pool returns the regions to the heap.
  return pool->Release(regions);
}

void LeaseRegistry::CountRefusal() {
  cuda::NoDriverCallsLock lock(&mu_);
  ++totals_.refused_allocations;
}

Grant LeaseRegistry::MakeGrant(AllocationId id, const Block& block) {
  const Region& region = block.region();
  return Grant{id,           region.id(),   region.size(),   block.offset(),
               block.size(), region.kind(), HandleOf(region)};
}

Block LeaseRegistry::TakeBlock(AllocationId id) {
  Allocation allocation = allocations_.Take(id);
  Session& session = *sessions_.Find(allocation.session);
  session.allocations.erase(id);
  SubtractBytes(session, allocation.block);
  return std::move(allocation.block);
}

void LeaseRegistry::ForgetRequest(SessionId session, uint64_t request_id) {
  cuda::NoDriverCallsLock lock(&mu_);
  if (Session* found = sessions_.Find(session)) found->requests.Forget(request_id);
}

}  // namespace tenure::server
