// Writes leases and segments into the journal.
#ifndef SERVER_LEASES_LEASE_JOURNAL_H_
#define SERVER_LEASES_LEASE_JOURNAL_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/memory_kind.h"
#include "server/identity/ids.h"
#include "server/journal/journal.h"
#include "server/leases/lease.h"
#include "server/leases/segment.h"
#include "server/memory/health.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

// A session, with the contents of the journal's first record about it.
struct JournaledSession {
  SessionId id = 0;
  uint64_t open_request = 0;
  const Lease& lease;
};

// Records everything that outlives the daemon's process: blocks of kind VMM_FD, segments of them,
// and the sessions that have either. Everything else is lost with the process, so it needs no
// record.
//
// Hides: which sessions the journal knows. A session's first record opens it there; without such a
// record its end needs none either.
// Each method writes its record before a client is told of the change, and before memory that was
// given back can be granted again. Without a journal the methods do nothing.
// Borrows: journal (null: nothing outlives the process) and health.
// Thread safety: thread-safe. Calls about one session come one after another: the registry makes
//     them under its lock, and its last one, or the quarantine, after no call finds the session.
// Errors: as Journal::Append. The health has failed then, and the daemon grants nothing more.
class LeaseJournal {
 public:
  LeaseJournal(Journal* journal, Health& health) : journal_(journal), health_(health) {}

  // Whether memory of this kind outlives the process. All of the daemon asks here and nowhere else.
  bool Survives(MemoryKind kind) const { return journal_ != nullptr && kind == MemoryKind::kVmmFd; }

  // Takes note of a session that the journal knows from an earlier life. Writes nothing.
  void SessionRestored(SessionId session);
  // Writes nothing for a session that the journal does not know.
  absl::Status SessionEnded(SessionId session);

  absl::Status BlockGranted(const JournaledSession& session, AllocationId allocation,
                            uint64_t request, const Block& block);
  // `request` is 0 when the daemon itself ended the block.
  absl::Status BlockFreed(SessionId session, AllocationId allocation, uint64_t request);

  absl::Status SegmentClaimed(const SegmentKey& key, const JournaledSession& session);
  absl::Status SegmentClaimEnded(const SegmentKey& key);
  // Also ends the session's claim of the name, if it has one.
  absl::Status SegmentPublished(const SegmentKey& key, const Segment& segment, SessionId session,
                                absl::Span<const AllocationId> allocations, AttachmentId attachment,
                                uint64_t request);
  absl::Status SegmentUnpublished(const SegmentKey& key);
  absl::Status SegmentAttached(const SegmentKey& key, const JournaledSession& session,
                               AttachmentId attachment, uint64_t request);
  absl::Status SegmentDetached(SessionId session, AttachmentId attachment);

 private:
  // Writes the record that opens the session, unless the journal has it.
  absl::Status OpenSession(const JournaledSession& session);
  absl::Status Append(const journal::Record& record);

  Journal* const journal_;
  Health& health_;

  // Held for the set only, never during a write.
  absl::Mutex mu_;
  absl::flat_hash_set<SessionId> known_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_JOURNAL_H_
