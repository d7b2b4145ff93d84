// Lists of the registry, and the check of its books.
#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {
namespace {

SegmentInfo Describe(const SegmentKey& key, const Segment& segment) {
  SegmentInfo info;
  info.key = key;
  info.allowed = segment.notes->allowed;
  info.digest = segment.notes->digest;
  info.kind = segment.kind();
  info.size = segment.size();
  info.blocks = segment.blocks.size();
  info.tensors = segment.notes->tensors.size();
  return info;
}

}  // namespace

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
  std::vector<SessionInfo> list;
  std::optional<uint64_t> next = 0;
  while (next) {
    cuda::NoDriverCallsLock lock(&mu_);
    const BootTime now = clock_.Now();
    const absl::Duration watched = watched_.At(now);
    const uint64_t first = *std::exchange(next, std::nullopt);
    size_t left = kMostUnderLock;
    sessions_.ForEach(
        [&](SessionId id, const Session& session) {
          // For the compiler, which does not see that ForEach calls this under the lock.
          mu_.AssertHeld();
          if (left-- == 0) {
            next = sessions_.Place(id);
            return false;
          }
          list.push_back(SessionInfo{id, session.lease, now - session.opened,
                                     session.deadline - watched, session.allocations.size(),
                                     session.allocated, session.requested, session.pool});
          return true;
        },
        first);
  }
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

// Continues the list behind its last row, and there at `attachment`, by as much as one hold of the
// lock handles. Returns whether the list is complete.
bool LeaseRegistry::ListSomeSegments(std::vector<SegmentInfo>& list,
                                     AttachmentId& attachment) const {
  cuda::NoDriverCallsLock lock(&mu_);
  const auto& segments = segments_.segments();
  auto next = list.empty() ? segments.begin() : segments.lower_bound(list.back().key);
  for (size_t left = kMostUnderLock; next != segments.end(); ++next) {
    const auto& [key, segment] = *next;
    if (list.empty() || list.back().key != key) {
      if (left-- == 0) return false;
      list.push_back(Describe(key, segment));
      list.back().survives_daemon = journal_.Survives(segment.kind());
      list.back().age = clock_.Now() - segment.published;
      attachment = 0;
    }
    // From where the last call stopped: an id of 0 is before all others.
    auto it = segment.attachments.lower_bound(attachment);
    for (; it != segment.attachments.end(); ++it) {
      if (left-- == 0) {
        attachment = *it;
        return false;
      }
      list.back().attached.push_back(segments_.AttachedSession(*it));
    }
    attachment = std::numeric_limits<AttachmentId>::max();
  }
  return true;
}

std::vector<SegmentInfo> LeaseRegistry::ListSegments() const {
  std::vector<SegmentInfo> list;
  AttachmentId attachment = 0;
  while (!ListSomeSegments(list, attachment)) {
  }
  std::optional<SegmentKey> last;
  for (bool more = true; more;) {
    cuda::NoDriverCallsLock lock(&mu_);
    const auto& claims = segments_.claims();
    auto next = last ? claims.upper_bound(*last) : claims.begin();
    for (size_t left = kMostUnderLock; left > 0 && next != claims.end(); --left, ++next) {
      SegmentInfo info;
      last = info.key = next->first;
      info.loading = next->second;  // and nothing else: the segment does not exist yet
      list.push_back(std::move(info));
    }
    more = next != claims.end();
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
