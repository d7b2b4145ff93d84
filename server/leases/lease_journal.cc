#include "server/leases/lease_journal.h"

#include "common/status_macros.h"
#include "server/leases/segment_record.h"

namespace tenure::server {

absl::Status LeaseJournal::Append(const journal::Record& record) {
  absl::Status written = journal_->Append(record);
  // The health fails here, so that no caller can forget it: a grant without a record would be lost
  // at the next start.
  if (!written.ok()) health_.Fail(written);
  return written;
}

absl::Status LeaseJournal::OpenSession(const JournaledSession& session) {
  {
    absl::MutexLock lock(&mu_);
    if (known_.contains(session.id)) return absl::OkStatus();
  }
  journal::Record record;
  journal::SessionOpened& opened = *record.mutable_session_opened();
  const Peer& peer = *session.lease.peer();
  opened.set_session_id(session.id);
  opened.set_open_request_id(session.open_request);
  opened.set_pid(peer.pid());
  opened.set_start_time(peer.key().start_time);
  opened.set_uid(peer.uid());
  opened.set_gid(peer.gid());
  opened.set_name(session.lease.name());
  TENURE_RETURN_IF_ERROR(Append(record));
  // Only now: after a failed write the journal does not know the session.
  absl::MutexLock lock(&mu_);
  known_.insert(session.id);
  return absl::OkStatus();
}

void LeaseJournal::SessionRestored(SessionId session) {
  absl::MutexLock lock(&mu_);
  known_.insert(session);
}

absl::Status LeaseJournal::SessionEnded(SessionId session) {
  {
    absl::MutexLock lock(&mu_);
    // Without a journal no session is known, so this returns here.
    if (known_.erase(session) == 0) return absl::OkStatus();
  }
  journal::Record record;
  record.mutable_session_ended()->set_session_id(session);
  return Append(record);
}

absl::Status LeaseJournal::BlockGranted(const JournaledSession& session, AllocationId allocation,
                                        uint64_t request, const Block& block) {
  if (journal_ == nullptr) return absl::OkStatus();
  TENURE_RETURN_IF_ERROR(OpenSession(session));
  journal::Record record;
  journal::BlockGranted& granted = *record.mutable_block_granted();
  granted.set_session_id(session.id);
  granted.set_allocation_id(allocation);
  granted.set_request_id(request);
  granted.set_region_id(block.region().id());
  granted.set_region_bytes(block.region().size().value());
  granted.set_offset_bytes(block.offset().value());
  granted.set_size_bytes(block.size().value());
  granted.set_requested_bytes(block.requested().value());
  granted.set_direct(block.direct());
  return Append(record);
}

absl::Status LeaseJournal::BlockFreed(SessionId session, AllocationId allocation,
                                      uint64_t request) {
  if (journal_ == nullptr) return absl::OkStatus();
  // The grant of the block has opened the session.
  journal::Record record;
  journal::BlockFreed& freed = *record.mutable_block_freed();
  freed.set_session_id(session);
  freed.set_allocation_id(allocation);
  freed.set_request_id(request);
  return Append(record);
}

absl::Status LeaseJournal::SegmentClaimed(const SegmentKey& key, const JournaledSession& session) {
  if (journal_ == nullptr) return absl::OkStatus();
  // Written whatever kind the segment will be of, which is not known yet.
  TENURE_RETURN_IF_ERROR(OpenSession(session));
  journal::Record record;
  journal::SegmentClaimed& claimed = *record.mutable_segment_claimed();
  claimed.set_name(key.name);
  claimed.set_uid(key.owner);
  claimed.set_session_id(session.id);
  return Append(record);
}

absl::Status LeaseJournal::SegmentClaimEnded(const SegmentKey& key) {
  if (journal_ == nullptr) return absl::OkStatus();
  journal::Record record;
  record.mutable_segment_claim_ended()->set_name(key.name);
  record.mutable_segment_claim_ended()->set_uid(key.owner);
  return Append(record);
}

absl::Status LeaseJournal::SegmentPublished(const SegmentKey& key, const Segment& segment,
                                            SessionId session,
                                            absl::Span<const AllocationId> allocations,
                                            AttachmentId attachment, uint64_t request) {
  if (journal_ == nullptr) return absl::OkStatus();
  // The grants of the blocks have opened the session.
  journal::Record record;
  journal::SegmentPublished& published = *record.mutable_segment_published();
  published.set_session_id(session);
  published.mutable_allocation_ids()->Add(allocations.begin(), allocations.end());
  published.set_attachment_id(attachment);
  published.set_request_id(request);
  ToJournal(key, segment, *published.mutable_segment());
  return Append(record);
}

absl::Status LeaseJournal::SegmentUnpublished(const SegmentKey& key) {
  if (journal_ == nullptr) return absl::OkStatus();
  journal::Record record;
  record.mutable_segment_unpublished()->set_name(key.name);
  record.mutable_segment_unpublished()->set_uid(key.owner);
  return Append(record);
}

absl::Status LeaseJournal::SegmentAttached(const SegmentKey& key, const JournaledSession& session,
                                           AttachmentId attachment, uint64_t request) {
  if (journal_ == nullptr) return absl::OkStatus();
  TENURE_RETURN_IF_ERROR(OpenSession(session));
  journal::Record record;
  journal::SegmentAttached& attached = *record.mutable_segment_attached();
  attached.set_name(key.name);
  attached.set_uid(key.owner);
  attached.set_session_id(session.id);
  attached.set_attachment_id(attachment);
  attached.set_request_id(request);
  return Append(record);
}

absl::Status LeaseJournal::SegmentDetached(SessionId session, AttachmentId attachment) {
  if (journal_ == nullptr) return absl::OkStatus();
  // The attachment, or the publication that made it, has opened the session.
  journal::Record record;
  record.mutable_segment_detached()->set_session_id(session);
  record.mutable_segment_detached()->set_attachment_id(attachment);
  return Append(record);
}

}  // namespace tenure::server
