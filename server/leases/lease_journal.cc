#include "server/leases/lease_journal.h"

namespace tenure::server {

absl::Status LeaseJournal::Append(const journal::Record& record) {
  absl::Status written = journal_->Append(record);
  if (!written.ok()) health_.Fail(written);
  return written;
}

absl::Status LeaseJournal::SessionOpened(SessionId session, uint64_t open_request, Lease& lease) {
  if (!on() || lease.journaled()) return absl::OkStatus();
  journal::Record record;
  journal::SessionOpened& opened = *record.mutable_session_opened();
  const Peer& peer = *lease.peer();
  opened.set_session_id(session);
  opened.set_open_request_id(open_request);
  opened.set_pid(peer.pid());
  opened.set_start_time(peer.key().start_time);
  opened.set_uid(peer.uid());
  opened.set_gid(peer.gid());
  opened.set_name(lease.name());
  if (absl::Status written = Append(record); !written.ok()) return written;
  lease.set_journaled();
  return absl::OkStatus();
}

absl::Status LeaseJournal::SessionEnded(SessionId session, const Lease& lease) {
  if (!on() || !lease.journaled()) return absl::OkStatus();
  journal::Record record;
  record.mutable_session_ended()->set_session_id(session);
  return Append(record);
}

absl::Status LeaseJournal::BlockGranted(SessionId session, AllocationId allocation,
                                        uint64_t request, const Block& block) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  journal::BlockGranted& granted = *record.mutable_block_granted();
  granted.set_session_id(session);
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
  if (!on()) return absl::OkStatus();
  journal::Record record;
  journal::BlockFreed& freed = *record.mutable_block_freed();
  freed.set_session_id(session);
  freed.set_allocation_id(allocation);
  freed.set_request_id(request);
  return Append(record);
}

absl::Status LeaseJournal::SegmentClaimed(const SegmentKey& key, SessionId session) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  journal::SegmentClaimed& claimed = *record.mutable_segment_claimed();
  claimed.set_name(key.name);
  claimed.set_uid(key.owner);
  claimed.set_session_id(session);
  return Append(record);
}

absl::Status LeaseJournal::SegmentClaimEnded(const SegmentKey& key) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  record.mutable_segment_claim_ended()->set_name(key.name);
  record.mutable_segment_claim_ended()->set_uid(key.owner);
  return Append(record);
}

absl::Status LeaseJournal::SegmentPublished(const SegmentKey& key, const Segment& segment,
                                            SessionId session,
                                            absl::Span<const AllocationId> allocations,
                                            AttachmentId attachment, uint64_t request) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  journal::SegmentPublished& published = *record.mutable_segment_published();
  published.set_session_id(session);
  published.mutable_allocation_ids()->Add(allocations.begin(), allocations.end());
  published.set_attachment_id(attachment);
  published.set_request_id(request);
  journal::Segment& out = *published.mutable_segment();
  out.set_name(key.name);
  out.set_uid(key.owner);
  out.mutable_allowed_uids()->Add(segment.notes.allowed.begin(), segment.notes.allowed.end());
  out.set_digest(segment.notes.digest);
  for (const SegmentBlock& block : segment.blocks) {
    journal::Segment::Block& one = *out.add_blocks();
    one.set_region_id(block.region.id());
    one.set_region_bytes(block.region.size().value());
    one.set_size_bytes(block.size.value());
  }
  for (const SegmentTensor& tensor : segment.notes.tensors) {
    journal::Segment::Tensor& one = *out.add_tensors();
    one.set_name(tensor.name);
    one.set_dtype(tensor.dtype);
    one.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    one.set_block(tensor.block);
    one.set_offset_bytes(tensor.offset.value());
    one.set_size_bytes(tensor.size.value());
  }
  return Append(record);
}

absl::Status LeaseJournal::SegmentUnpublished(const SegmentKey& key) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  record.mutable_segment_unpublished()->set_name(key.name);
  record.mutable_segment_unpublished()->set_uid(key.owner);
  return Append(record);
}

absl::Status LeaseJournal::SegmentAttached(const SegmentKey& key, SessionId session,
                                           AttachmentId attachment, uint64_t request) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  journal::SegmentAttached& attached = *record.mutable_segment_attached();
  attached.set_name(key.name);
  attached.set_uid(key.owner);
  attached.set_session_id(session);
  attached.set_attachment_id(attachment);
  attached.set_request_id(request);
  return Append(record);
}

absl::Status LeaseJournal::SegmentDetached(SessionId session, AttachmentId attachment) {
  if (!on()) return absl::OkStatus();
  journal::Record record;
  record.mutable_segment_detached()->set_session_id(session);
  record.mutable_segment_detached()->set_attachment_id(attachment);
  return Append(record);
}

}  // namespace tenure::server
