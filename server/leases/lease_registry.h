// The registry of leases: sessions, their allocations and their segments.
#ifndef SERVER_LEASES_LEASE_REGISTRY_H_
#define SERVER_LEASES_LEASE_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "common/cuda/no_driver_calls.h"
#include "common/unique_fd.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/identity/slot_table.h"
#include "server/leases/deadlines.h"
#include "server/leases/grants.h"
#include "server/leases/lease.h"
#include "server/leases/lease_journal.h"
#include "server/leases/listing.h"
#include "server/leases/quarantine.h"
#include "server/leases/registered_session.h"
#include "server/leases/registry_options.h"
#include "server/leases/restored_session.h"
#include "server/leases/segment_table.h"
#include "server/leases/watched_time.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

// The sessions, their leases, their allocations, and the segments that they share.
//
// Hides: the requests that were answered before. A repeated request takes effect once and gets its
// first answer again.
// Invariants
//  1. An allocation belongs to one session, and a session to one process. The registry answers
//     about an id only to that process.
//  2. Time alone takes no memory: an overdue session gets nothing new, and keeps its memory until
//     CloseSession, until the process exits, or until another program runs in the process. Only
//     time in which somebody called SuspendOverdue at least every kLongestLook makes it overdue.
//  3. To reclaim a dead client is to destroy its lease: the blocks return to the pool by
//     themselves, and the pool passes the regions to the quarantine.
// Borrows: device heap, quarantine, journal, clock. They outlive it, and it outlives every
//     Admission.
// Thread safety: thread-safe. No driver call is made under its lock, and no block and no pool is
//     destroyed under it.
// Lock order: a thread that holds one of these locks takes only locks from the lines below it. They
//     are private members of different classes, so the compiler cannot check the order.
//   1. LeaseRegistry::mu_
//   2. SessionPool::mu_, Quarantine::mu_ (the registry never enters the quarantine under its lock)
//   3. DeviceHeap::mu_, Lease::mu_, LeaseJournal::mu_
//   4. Journal::compact_mu_, then Journal::mu_
//   5. Health
//   The callbacks OnReclaimed and on_cleared run with none of them held; Options::on_second_tenant
//   and the argument of KillOverdue run under LeaseRegistry::mu_.
// Errors: NOT_FOUND (an id that is unknown or another process's), ABORTED (an id of another epoch),
//     FAILED_PRECONDITION (suspended; a request id that was used for something else; no descriptor
//     maps this kind), UNAVAILABLE (the same request is still under way; the daemon drains),
//     RESOURCE_EXHAUSTED (limits).
class LeaseRegistry {
 public:
  // The most time between two looks (SuspendOverdue) that counts: the daemon looks every 200 ms.
  static constexpr absl::Duration kLongestLook = absl::Milliseconds(500);

  using Options = RegistryOptions;

  LeaseRegistry(DeviceHeap& heap, Quarantine& quarantine, LeaseJournal& journal, const Clock& clock,
                const Options& options);
  // REQUIRES: every session has ended.
  ~LeaseRegistry();

  // Sessions (lease_registry_sessions.cc).

  // Idempotent by process and request id.
  absl::StatusOr<SessionId> Open(std::shared_ptr<const Peer> peer, uint64_t request_id,
                                 std::string name);
  // `prepaid`, as in Free: whether it is one of the first kFreeKeepAlives within a lease time.
  absl::Status KeepAlive(const Peer& caller, SessionId session, bool* prepaid = nullptr);
  absl::Status Close(const Peer& caller, SessionId session);

  // Overdue sessions (lease_registry_overdue.cc). Each call decides under the lock, so that a
  // keep-alive comes either before the decision or after it.

  // Suspends the sessions whose keep-alive is overdue. Returns how much of the time since the last
  // call does not count against anybody, because nobody looked.
  absl::Duration SuspendOverdue();
  // At most `most` of the processes with suspended sessions, after `after` in order of their keys.
  std::vector<OverdueProcess> OverdueProcesses(const ProcessKey& after, size_t most) const;
  // Notes in each suspended lease of this process why it sends no keep-alives.
  void NoteOverdueCause(const ProcessKey& process, LeaseEvent cause);
  // Ends the suspended sessions of a process in which another program runs. Their regions go to the
  // driver, which does not reuse memory that a process still maps.
  void EndExeced(const ProcessKey& process);
  // Calls `kill`, under the lock, with a lease of this process that has been overdue for `grace`;
  // if there is one, and once until the process has no suspended session.
  void KillOverdue(const ProcessKey& process, absl::Duration grace,
                   absl::FunctionRef<void(const std::shared_ptr<const Lease>&)> kill);

  // Ends all sessions of a process that has exited; their regions go to the quarantine. Returns how
  // many sessions there were.
  size_t Reclaim(const ProcessKey& process);
  // From now on no session gets anything new. Each keeps its memory.
  void Drain();
  bool draining() const;
  // Ends every session and every segment. Their regions go to the driver.
  void CloseAll();

  // Allocations (lease_registry_allocations.cc).

  // The right to make one allocation. Between Admit and Commit the caller takes the block from the
  // pool, without the registry's lock: the driver may need 250 ms for it.
  class Admission {
   public:
    Admission(Admission&& other) noexcept;
    Admission& operator=(Admission&&) = delete;
    // Forgets the request, unless it was committed, so that it may be tried again.
    ~Admission();
    SessionPool& pool() const { return *pool_; }

   private:
    friend class LeaseRegistry;
    Admission(LeaseRegistry* registry, SessionId session, uint64_t request_id,
              std::shared_ptr<SessionPool> pool)
        : registry_(registry), session_(session), request_id_(request_id), pool_(std::move(pool)) {}
    LeaseRegistry* registry_;
    SessionId session_;
    uint64_t request_id_;
    std::shared_ptr<SessionPool> pool_;
  };
  // An admitted request and the block made for it.
  struct Pending {
    Admission admission;
    Block block;
  };

  // Either the grant that this request got before, or the right to allocate.
  absl::StatusOr<std::variant<Grant, Admission>> Admit(const Peer& caller, SessionId session,
                                                       uint64_t request_id);
  // Makes the admitted blocks allocations of their session: all or none. NOT_FOUND when the session
  // has ended meanwhile; the blocks return to their pool then. REQUIRES: all are of one session.
  absl::StatusOr<std::vector<Grant>> Commit(std::vector<Pending> pending);
  // Ends an allocation; the block returns to its pool. Returns the session's idle regions.
  // Idempotent by request id. Sets `prepaid`, if it is not null: whether this very call ended it.
  absl::StatusOr<std::vector<RegionId>> Free(const Peer& caller, SessionId session,
                                             uint64_t request_id, AllocationId allocation,
                                             bool unmapped, bool* prepaid = nullptr);
  // A copy of the descriptor that maps this region, which is of kind VMM_FD.
  absl::StatusOr<UniqueFd> Export(const Peer& caller, const RegionName& name);
  // The client has unmapped these regions; the empty ones leave the session. Returns how many.
  absl::StatusOr<uint32_t> ReleaseRegions(const Peer& caller, SessionId session,
                                          absl::Span<const RegionId> regions);
  void CountRefusal();

  // Segments (lease_registry_segments.cc).

  // Makes a segment of these allocations, which are direct and of the session. They leave its
  // lease, and the session is attached to the segment. Idempotent by request id. INVALID_ARGUMENT:
  // one is from a pool or of another kind than the first, or a tensor lies outside its block.
  absl::StatusOr<AttachmentId> Publish(const Peer& caller, SessionId session, uint64_t request_id,
                                       const std::string& name,
                                       absl::Span<const AllocationId> allocations,
                                       SegmentNotes notes);
  // Attaches the session to the segment. When the segment is not published: NOT_FOUND, or with
  // `claim` which session loads it. Idempotent by request id.
  absl::StatusOr<std::variant<SegmentGrant, SegmentClaim>> AttachSegment(const Peer& caller,
                                                                         SessionId session,
                                                                         uint64_t request_id,
                                                                         const SegmentKey& key,
                                                                         bool claim);
  // The client has unmapped the segment.
  absl::Status DetachSegment(const Peer& caller, SessionId session, AttachmentId attachment);
  // Ends the session's claim of a name, so that another session may load the segment.
  absl::Status EndClaim(const Peer& caller, SessionId session, const SegmentKey& key);
  // Ends the segment. Its regions go to the driver. `force`: also when sessions are attached.
  // REQUIRES: the caller may act for the owner of the name.
  absl::Status Unpublish(const SegmentKey& key, bool force);

  // Restoring the state of an earlier life (lease_registry_restore.cc), before anything else
  // happens. First sessions, then segments, then attachments and claims.

  void RestoreSession(RestoredSession restored);
  void RestoreSegment(const SegmentKey& key, Segment segment);
  void RestoreAttachment(AttachmentId attachment, const SegmentKey& key, SessionId session);
  void RestoreClaim(const SegmentKey& key, SessionId session);

  // Listing (lease_registry_listing.cc).

  LeaseTotals totals() const;
  // Oldest first.
  std::vector<SessionInfo> ListSessions() const;
  // Null when there is no such session.
  std::shared_ptr<const Lease> FindLease(SessionId session) const;
  // At most `limit` allocations, from `first_slot` on, of this session and this user when they are
  // given. Also returns the slot at which to continue; 0 when there are no more.
  std::pair<std::vector<AllocationInfo>, uint64_t> ListAllocations(uint64_t first_slot,
                                                                   size_t limit, SessionId session,
                                                                   std::optional<uid_t> uid) const;
  // By owner and name; the claimed names last.
  std::vector<SegmentInfo> ListSegments() const;
  absl::Duration lease_ttl() const { return options_.lease_ttl; }
  Epoch epoch() const { return options_.epoch; }
  // Restates the books from scratch and aborts when they do not balance.
  void CheckInvariants() const;

 private:
  using Session = RegisteredSession;
  using Allocation = RegisteredAllocation;
  using Ended = EndedSession;

  // Of the caller's process; otherwise the same answer as for an id that does not exist.
  absl::StatusOr<Session*> Find(const Peer& caller, SessionId id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckEpoch(uint64_t id) const;
  // An error when a session of this tenant may not be opened now.
  absl::Status CheckLimits(Tenant tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Duration WatchedNow() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  // Suspends the session if it is overdue. Returns whether it is suspended.
  bool IsSuspended(SessionId id, const Session& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A session that begins now and holds nothing; by IndexSession it becomes one of its process and
  // of its tenant.
  Session MakeSession(std::shared_ptr<Lease> lease, uint64_t open_request,
                      std::shared_ptr<SessionPool> pool) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void IndexSession(SessionId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The opposite of both: no call finds the session any more. EndInSegments and ReturnBlocks, which
  // take the lock for some entries at a time, have to follow.
  Ended TakeSession(SessionId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReturnBlocks(Ended ended) ABSL_LOCKS_EXCLUDED(mu_);
  // Adds the block to the sums of its session and of the daemon, or subtracts it.
  void AddBytes(Session& session, const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SubtractBytes(Session& session, const Block& block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes an admitted block an allocation of the session.
  absl::StatusOr<Grant> CommitOne(Session& session, Pending pending)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends an allocation and returns its block.
  Block TakeBlock(AllocationId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The request may be tried again.
  void ForgetRequest(SessionId session, uint64_t request_id);

  bool ListSomeSegments(std::vector<SegmentInfo>& list, AttachmentId& attachment) const;
  static Grant MakeGrant(AllocationId id, const Block& block);
  SegmentGrant MakeSegmentGrant(AttachmentId attachment, const Segment& segment) const;
  MemoryKind KindOf(AllocationId allocation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return allocations_.Find(allocation)->block.region().kind();
  }
  absl::StatusOr<const Region*> FindRegion(const Session& session, AllocationId allocation) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<const Region*> FindRegion(SessionId session, const SegmentBlockName& name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Whether these allocations of the session may become a segment with these notes.
  absl::Status CheckContents(const Session& session, absl::Span<const AllocationId> allocations,
                             const SegmentNotes& notes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<SegmentClaim> ClaimSegment(SessionId id, const Session& session,
                                            const SegmentKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status EndAttachment(AttachmentId attachment, SessionId session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends the claims and attachments of a session that ends.
  void EndInSegments(SessionId session) ABSL_LOCKS_EXCLUDED(mu_);
  // Of the segment. Returns whether none is left.
  absl::StatusOr<bool> DetachSome(const SegmentKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  DeviceHeap& heap_;
  Quarantine& quarantine_;
  LeaseJournal& journal_;
  const Clock& clock_;
  const Options options_;

  // Guards the tables of sessions and of their holdings; first in the lock order. No driver call is
  // made under it, and no block and no pool is destroyed under it.
  mutable absl::Mutex mu_;
  SlotTable<Session> sessions_ ABSL_GUARDED_BY(mu_);
  SlotTable<Allocation> allocations_ ABSL_GUARDED_BY(mu_);
  SegmentTable segments_ ABSL_GUARDED_BY(mu_);
  // By the request that opened them.
  absl::flat_hash_map<ProcessKey, absl::btree_set<std::pair<uint64_t, SessionId>>> by_process_
      ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Tenant, uint64_t> by_tenant_ ABSL_GUARDED_BY(mu_);
  WatchedTime watched_ ABSL_GUARDED_BY(mu_);
  Deadlines deadlines_ ABSL_GUARDED_BY(mu_);
  LeaseTotals totals_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Tenant> first_tenant_ ABSL_GUARDED_BY(mu_);
  bool second_tenant_seen_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_REGISTRY_H_
