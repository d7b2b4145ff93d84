// Who holds what, and until when.
#ifndef SERVER_LEASES_LEASE_REGISTRY_H_
#define SERVER_LEASES_LEASE_REGISTRY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "common/cuda/no_driver_calls.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/identity/request_window.h"
#include "server/identity/slot_table.h"
#include "server/leases/fence.h"
#include "server/leases/lease.h"
#include "server/leases/lease_journal.h"
#include "server/leases/segment_table.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

// A block in a session's hands, as told to its client.
struct Grant {
  AllocationId allocation = 0;
  RegionId region = 0;
  Bytes region_size;
  Bytes offset;
  Bytes size;
  MemoryKind kind = MemoryKind::kCudaIpc;
  cuda::IpcHandle handle;  // of kind CUDA_IPC
};

// A block of a segment, by the attachment through which a session has it.
struct SegmentBlockName {
  AttachmentId attachment = 0;
  uint32_t block = 0;
};

// The region that a session wants a descriptor of: of an allocation, or of a segment's block.
struct RegionClaim {
  SessionId session = 0;
  std::variant<AllocationId, SegmentBlockName> region;
};

// A segment in a session's hands, as told to its client.
struct SegmentGrant {
  struct Block {
    RegionId region = 0;
    Bytes region_size;
    Bytes size;
    MemoryKind kind = MemoryKind::kCudaIpc;
    cuda::IpcHandle handle;  // of kind CUDA_IPC
  };
  AttachmentId attachment = 0;
  SegmentNotes notes;
  std::vector<Block> blocks;
  bool survives_daemon = false;
};

// What there is instead of a segment that nobody has published.
enum class SegmentClaim {
  kOurs,    // this session is to load it
  kOthers,  // another session is loading it
};

struct SegmentInfo {
  SegmentKey key;
  std::vector<uid_t> allowed;
  std::string digest;
  MemoryKind kind = MemoryKind::kCudaIpc;
  bool survives_daemon = false;
  Bytes size;
  uint64_t blocks = 0;
  uint64_t tensors = 0;
  absl::Duration age;
  std::vector<SessionId> attached;
  SessionId loading = 0;  // the session that has claimed the name; then nothing else is known
};

// A session of an earlier life of the daemon, with what it still has.
struct RestoredSession {
  struct RegionWithBlocks {
    Region region;
    std::vector<AllocationId> allocations;  // one for each of the blocks
    std::vector<SessionPool::RestoredBlock> blocks;
  };
  SessionId id = 0;
  std::shared_ptr<const Peer> peer;
  std::string name;
  uint64_t open_request = 0;
  RequestWindow requests;
  std::vector<RegionWithBlocks> regions;
};

struct SessionInfo {
  SessionId id = 0;
  std::shared_ptr<const Lease> lease;
  absl::Duration age;
  absl::Duration lease_left;
  uint64_t allocations = 0;
  Bytes allocated;
  Bytes requested;
  std::shared_ptr<const SessionPool> pool;
};

struct AllocationInfo {
  AllocationId id = 0;
  SessionId session = 0;
  pid_t pid = 0;
  RegionId region = 0;
  Bytes offset;
  Bytes size;
  Bytes requested;
  bool direct = false;
  MemoryKind kind = MemoryKind::kCudaIpc;
  absl::Duration age;
};

// A session whose keep-alive is overdue.
struct OverdueSession {
  SessionId id = 0;
  std::shared_ptr<Lease> lease;
  absl::Duration by;
};

// Counts since the start, and what is held now.
struct LeaseTotals {
  uint64_t active_sessions = 0;
  uint64_t suspended_sessions = 0;
  uint64_t active_allocations = 0;
  Bytes allocated;
  Bytes requested;
  uint64_t allocations = 0;
  uint64_t refused_allocations = 0;
  uint64_t frees = 0;
  uint64_t reclaimed_allocations = 0;
  uint64_t sessions_opened = 0;
  uint64_t sessions_reclaimed = 0;
  uint64_t segments = 0;
  uint64_t attachments = 0;
  Bytes segment_bytes;  // of their regions
};

// The sessions, their leases and the allocations in them.
//
// Hides: which requests were answered already, so that a repeated one gets its first answer and
// takes effect once.
// Invariants
//  1. An allocation belongs to one session, a session to one process; ids are answered only to that
//  process.
//  2. Granting nothing new is all that time does to a session: its memory ends with CloseSession or
//     with the program that runs in the process.
//  3. Reclaiming a dead client is destroying its lease: the blocks return by themselves, the
//     regions go to the fence.
// Borrows: device heap, fence, journal, clock; they outlive it, and so do they every Admission.
// Thread safety: thread-safe. No driver call and no block's end happens under the lock.
// Errors: NOT_FOUND (an id that is unknown or another process's), ABORTED (an id of another epoch),
//     FAILED_PRECONDITION (suspended; a request id that was used for something else; no descriptor
//     maps this kind), UNAVAILABLE (the same request is still under way; the daemon drains),
//     RESOURCE_EXHAUSTED (limits).
class LeaseRegistry {
 public:
  struct Options {
    Epoch epoch = 1;
    absl::Duration lease_ttl = absl::Seconds(10);
    uint64_t max_sessions = 16384;
    uint64_t max_tenant_sessions = 16384;
    Bytes max_pool_block = MiB(1);
    // Called once, when sessions of a second tenant appear. Under the lock.
    std::function<void(Tenant)> on_second_tenant = [](Tenant) {};
  };

  LeaseRegistry(DeviceHeap& heap, Fence& fence, LeaseJournal& journal, const Clock& clock,
                const Options& options);
  // Every session has ended.
  ~LeaseRegistry();

  // Idempotent by (process, request id).
  absl::StatusOr<SessionId> Open(std::shared_ptr<const Peer> peer, uint64_t request_id,
                                 std::string name);
  absl::Status KeepAlive(const Peer& caller, SessionId session);
  absl::Status Close(const Peer& caller, SessionId session);

  // The right to make one allocation: reserve, try, roll back. Between Admit and Attach the pool
  // works, unlocked.
  class Admission {
   public:
    Admission(Admission&& other) noexcept;
    Admission& operator=(Admission&&) = delete;
    // Forgets the request, unless Attach was called, so that it may be tried again.
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

  // Either the grant that this request got before, or the right to allocate.
  absl::StatusOr<std::variant<Grant, Admission>> Admit(const Peer& caller, SessionId session,
                                                       uint64_t request_id);
  // An admitted request and the block made for it.
  struct Pending {
    Admission admission;
    Block block;
  };
  // Puts the blocks into their session's lease: all or none. When the session ended meanwhile, they
  // return and this is NOT_FOUND. All are of one session.
  absl::StatusOr<std::vector<Grant>> Attach(std::vector<Pending> pending);

  // Ends an allocation; the block returns to its pool. Returns the session's idle regions.
  // Idempotent by request id.
  absl::StatusOr<std::vector<RegionId>> Free(const Peer& caller, SessionId session,
                                             uint64_t request_id, AllocationId allocation,
                                             bool unmapped);
  // A copy of the descriptor that maps this region, which is of kind VMM_FD.
  absl::StatusOr<UniqueFd> Export(const Peer& caller, const RegionClaim& claim);
  absl::StatusOr<uint32_t> ReleaseRegions(const Peer& caller, SessionId session,
                                          absl::Span<const RegionId> regions);

  // Segments (lease_registry_segments.cc).
  // Makes a segment of these allocations, which are direct and of the session; they leave its
  // lease, and it is attached to the segment. Idempotent by request id. INVALID_ARGUMENT: one is
  // from a pool or of another kind than the first, or a tensor lies outside its block.
  absl::StatusOr<AttachmentId> Publish(const Peer& caller, SessionId session, uint64_t request_id,
                                       const std::string& name,
                                       absl::Span<const AllocationId> allocations,
                                       SegmentNotes notes);
  // Attaches the session to the segment. If nobody has published it: NOT_FOUND, or with `claim` who
  // is to. Idempotent by request id.
  absl::StatusOr<std::variant<SegmentGrant, SegmentClaim>> Attach(const Peer& caller,
                                                                  SessionId session,
                                                                  uint64_t request_id,
                                                                  const SegmentKey& key,
                                                                  bool claim);
  // The client has unmapped it.
  absl::Status Detach(const Peer& caller, SessionId session, AttachmentId attachment);
  // Gives up the claim of a name, so that another session may load it.
  absl::Status EndClaim(const Peer& caller, SessionId session, const SegmentKey& key);
  // The segment's regions go back to the driver. The caller was found to be allowed to.
  absl::Status Unpublish(const SegmentKey& key, bool force);
  // By owner and name.
  std::vector<SegmentInfo> ListSegments() const;

  // What an earlier life of the daemon left (lease_registry_restore.cc), before anything else
  // happens: sessions first, then segments, then who is attached to them or loads them. None is
  // known yet.
  void Restore(RestoredSession restored);
  void Restore(const SegmentKey& key, Segment segment);
  void Restore(AttachmentId attachment, const SegmentKey& key, SessionId session);
  void RestoreClaim(const SegmentKey& key, SessionId session);

  // The process has exited: ends all its sessions; their regions go to the fence. Returns how many
  // there were.
  size_t Reclaim(const ProcessKey& process);
  // Suspends the sessions whose keep-alive is overdue. Returns all that are suspended.
  std::vector<OverdueSession> SuspendOverdue();
  // Another program runs in the session's process: ends the session; its regions go back to the
  // driver, which isolates by itself. False when it spoke up meanwhile or is gone.
  bool Abandon(SessionId session);
  // From now on nothing new is granted, to nobody; what is held stays held.
  void Drain();
  // Ends every session and every segment; regions go back to the driver.
  void CloseAll();
  void CountRefusal();

  // Listing (lease_registry_listing.cc).
  LeaseTotals totals() const;
  // Oldest first.
  std::vector<SessionInfo> ListSessions() const;
  // Null when there is no such session.
  std::shared_ptr<const Lease> FindLease(SessionId session) const;
  // From `first_slot` on, at most `limit` that `wanted` lets pass; also the slot to go on from, 0
  // when that was all.
  std::pair<std::vector<AllocationInfo>, uint64_t> ListAllocations(uint64_t first_slot,
                                                                   size_t limit, SessionId session,
                                                                   std::optional<uid_t> uid) const;
  absl::Duration lease_ttl() const { return options_.lease_ttl; }
  Epoch epoch() const { return options_.epoch; }

  // Restates the books from scratch and aborts when they do not balance.
  void CheckInvariants() const;

 private:
  struct Session {
    std::shared_ptr<Lease> lease;
    uint64_t open_request = 0;
    BootTime opened;
    BootTime deadline;
    std::shared_ptr<SessionPool> pool;
    absl::flat_hash_set<AllocationId> allocations;
    Bytes allocated;
    Bytes requested;
    RequestWindow requests;
  };
  struct Allocation {
    SessionId session = 0;
    BootTime since;
    Block block;
  };
  // What is left of an ended session; its end happens outside the lock.
  struct Ended {
    SessionId id = 0;
    Session session;
    std::vector<Allocation> allocations;
  };

  absl::StatusOr<Session*> Find(const Peer& caller, SessionId id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckEpoch(uint64_t id) const;
  // Why no session may be opened now, for this tenant.
  absl::Status CheckLimits(Tenant tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Suspends the session if it is overdue; whether it is suspended.
  bool IsSuspended(Session& session) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Grant GrantOf(AllocationId id, const Block& block) const;
  static SegmentGrant GrantOf(AttachmentId attachment, const Segment& segment);
  MemoryKind KindOf(AllocationId allocation) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return allocations_.Find(allocation)->block.region().kind();
  }
  absl::StatusOr<const Region*> FindRegion(const Session& session, AllocationId allocation) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<const Region*> FindRegion(SessionId session, const SegmentBlockName& name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status EndAttachment(AttachmentId attachment, SessionId session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The session is over: so are its claims and attachments.
  void EndInSegments(SessionId session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteTenant(Tenant tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether these allocations of the session may become a segment with these notes.
  absl::Status CheckContents(const Session& session, absl::Span<const AllocationId> allocations,
                             const SegmentNotes& notes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Grant> AttachOne(Session& session, Pending pending)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Ended Remove(SessionId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Block Detach(AllocationId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Forget(SessionId session, uint64_t request_id);

  DeviceHeap& heap_;
  Fence& fence_;
  LeaseJournal& journal_;
  const Clock& clock_;
  const Options options_;

  // Guards who holds what. No driver call is made under it, and no block or pool ends under it.
  mutable absl::Mutex mu_;
  SlotTable<Session> sessions_ ABSL_GUARDED_BY(mu_);
  SlotTable<Allocation> allocations_ ABSL_GUARDED_BY(mu_);
  SegmentTable segments_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<ProcessKey, std::vector<SessionId>> by_process_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Tenant, uint64_t> by_tenant_ ABSL_GUARDED_BY(mu_);
  LeaseTotals totals_ ABSL_GUARDED_BY(mu_);
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Tenant> first_tenant_ ABSL_GUARDED_BY(mu_);
  bool second_tenant_seen_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_REGISTRY_H_
