// Lists of the registry, and the check of its books.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

LeaseTotals LeaseRegistry::totals() const {
  cuda::NoDriverCallsLock lock(&mu_);
  LeaseTotals totals = totals_;
  totals.active_sessions = deadlines_.active().size();
  totals.suspended_sessions = sessions_.size() - deadlines_.active().size();
  totals.active_allocations = allocations_.size();
  totals.segments = segments_.segments().size();
  totals.attachments = segments_.attachments();
  totals.segment_bytes = segments_.region_bytes();
  return totals;
}

std::vector<SessionInfo> LeaseRegistry::ListSessions() const {
  cuda::NoDriverCallsLock lock(&mu_);
  const BootTime now = clock_.Now();
  const absl::Duration watched = watched_.At(now);
  std::vector<SessionInfo> list;
  sessions_.ForEach([&](SessionId id, const Session& session) {
    list.push_back(SessionInfo{id, session.lease, now - session.opened, session.deadline - watched,
                               session.allocations.size(), session.allocated, session.requested,
                               session.pool});
    return true;
  });
  // The table is in the order of its slots, which are used again.
  std::stable_sort(list.begin(), list.end(),
                   [](const SessionInfo& a, const SessionInfo& b) { return a.age > b.age; });
  return list;
}

std::shared_ptr<const Lease> LeaseRegistry::FindLease(SessionId id) const {
  cuda::NoDriverCallsLock lock(&mu_);
  const Session* session = sessions_.Find(id);
  return session == nullptr ? nullptr : session->lease;
}

std::pair<std::vector<AllocationInfo>, uint64_t> LeaseRegistry::ListAllocations(
    uint64_t first_slot, size_t limit, SessionId session, std::optional<uid_t> uid) const {
  cuda::NoDriverCallsLock lock(&mu_);
  const BootTime now = clock_.Now();
  std::vector<AllocationInfo> list;
  uint64_t next = 0;
  allocations_.ForEach(
      [&](AllocationId id, const Allocation& allocation) {
        // For the compiler, which does not see that ForEach calls this under the lock.
        mu_.AssertHeld();
        const Session& owner = *sessions_.Find(allocation.session);
        if ((session != 0 && allocation.session != session) ||
            (uid && owner.lease->peer()->uid() != *uid))
          return true;
        // This allocation belongs to the next page. So a page that ends with the last allocation of
        // all has no next page.
        if (list.size() == limit) {
          next = allocations_.Place(id);
          return false;
        }
        const Block& block = allocation.block;
        list.push_back(AllocationInfo{id, allocation.session, owner.lease->peer()->pid(),
                                      block.region().id(), block.offset(), block.size(),
                                      block.requested(), block.direct(), block.region().kind(),
                                      now - allocation.since});
        return true;
      },
      first_slot);
  return {std::move(list), next};
}

std::vector<SegmentInfo> LeaseRegistry::ListSegments() const {
  cuda::NoDriverCallsLock lock(&mu_);
  const BootTime now = clock_.Now();
  std::vector<SegmentInfo> list;
  for (const auto& [key, segment] : segments_.segments()) {
    SegmentInfo info;
    info.key = key;
    info.allowed = segment.notes.allowed;
    info.digest = segment.notes.digest;
    info.kind = segment.kind();
    info.survives_daemon = journal_.Survives(segment.kind());
    info.size = segment.size();
    info.blocks = segment.blocks.size();
    info.tensors = segment.notes.tensors.size();
    info.age = now - segment.published;
    for (const auto& [attachment, session] : segments_.AttachedTo(key)) {
      info.attached.push_back(session);
    }
    list.push_back(std::move(info));
  }
  for (const auto& [key, session] : segments_.claims()) {
    SegmentInfo info;
    info.key = key;
    info.loading = session;  // and nothing else: the segment does not exist yet
    list.push_back(std::move(info));
  }
  return list;
}

void LeaseRegistry::CheckInvariants() const {
  cuda::NoDriverCallsLock lock(&mu_);
  Bytes allocated;
  Bytes requested;
  uint64_t allocations = 0;
  uint64_t deadlines = deadlines_.active().size();
  for (const auto& [process, overdue] : deadlines_.suspended()) {
    TENURE_CHECK(!overdue.sessions.empty());
    deadlines += overdue.sessions.size();
  }
  TENURE_CHECK(deadlines == sessions_.size());
  // From the sessions to their allocations; the counts below show that no allocation is left over.
  sessions_.ForEach([&](SessionId id, const Session& session) {
    mu_.AssertHeld();
    const Deadlines::Deadline deadline{session.deadline, id};
    TENURE_CHECK(
        session.lease->state() == LeaseState::kActive
            ? deadlines_.active().contains(deadline)
            : deadlines_.suspended().at(session.lease->peer()->key()).sessions.contains(deadline));
    Bytes session_allocated;
    Bytes session_requested;
    for (const AllocationId allocation : session.allocations) {
      const Allocation* found = allocations_.Find(allocation);
      TENURE_CHECK(found != nullptr && found->session == id);
      session_allocated += found->block.size();
      session_requested += found->block.requested();
    }
    TENURE_CHECK(session_allocated == session.allocated && session_requested == session.requested);
    allocated += session_allocated;
    requested += session_requested;
    allocations += session.allocations.size();
    return true;
  });
  uint64_t sessions = 0;
  for (const auto& [tenant, count] : by_tenant_) sessions += count;
  TENURE_CHECK(sessions == sessions_.size());
  TENURE_CHECK(allocations == allocations_.size());
  TENURE_CHECK(allocated == totals_.allocated && requested == totals_.requested);
  segments_.CheckInvariants();
}

}  // namespace tenure::server
