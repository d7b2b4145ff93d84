// Leases and segments, as the journal has them.
#ifndef SERVER_LEASES_LEASE_JOURNAL_H_
#define SERVER_LEASES_LEASE_JOURNAL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "server/identity/ids.h"
#include "server/journal/journal.h"
#include "server/leases/lease.h"
#include "server/leases/segment_table.h"
#include "server/memory/health.h"
#include "server/memory/session_pool.h"

namespace tenure::server {

// Writes down what is to outlive the daemon: blocks of kind VMM_FD, segments of them, and the
// sessions that have either. What becomes of the others with the daemon is known without a journal.
//
// Each method writes one record, before anybody is told of what it says and before what is given
// back can be given to anybody else. Without a journal they do nothing.
// Borrows: journal (may be null) and health.
// Thread safety: thread-safe; the order of the records is that of the calls.
// Errors: as Journal::Append. The health has failed then: the daemon promises nothing more.
class LeaseJournal {
 public:
  LeaseJournal(Journal* journal, Health& health) : journal_(journal), health_(health) {}

  // Whether anything is written at all.
  bool on() const { return journal_ != nullptr; }

  // The first record about a session. No-op when it was written.
  absl::Status SessionOpened(SessionId session, uint64_t open_request, Lease& lease);
  // No-op for a session that the journal does not know.
  absl::Status SessionEnded(SessionId session, const Lease& lease);

  absl::Status BlockGranted(SessionId session, AllocationId allocation, uint64_t request,
                            const Block& block);
  absl::Status BlockFreed(SessionId session, AllocationId allocation, uint64_t request);

  absl::Status SegmentClaimed(const SegmentKey& key, SessionId session);
  absl::Status SegmentClaimEnded(const SegmentKey& key);
  absl::Status SegmentPublished(const SegmentKey& key, const Segment& segment, SessionId session,
                                absl::Span<const AllocationId> allocations, AttachmentId attachment,
                                uint64_t request);
  absl::Status SegmentUnpublished(const SegmentKey& key);
  absl::Status SegmentAttached(const SegmentKey& key, SessionId session, AttachmentId attachment,
                               uint64_t request);
  absl::Status SegmentDetached(SessionId session, AttachmentId attachment);

 private:
  absl::Status Append(const journal::Record& record);

  Journal* const journal_;
  Health& health_;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_LEASE_JOURNAL_H_
