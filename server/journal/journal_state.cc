#include "server/journal/journal_state.h"

#include <limits>

#include "common/status_macros.h"

namespace tenure::server {

JournalRegions::Range RangeOf(const journal::BlockGranted& block) {
  return {block.region_id(), block.region_bytes(), block.offset_bytes(), block.size_bytes()};
}

absl::Status JournalState::Apply(const journal::Record& record) {
  using Change = journal::Record::ChangeCase;
  if (!is_open() && record.change_case() != Change::kOpening)
    return Contradicts("comes before any opening");
  switch (record.change_case()) {
    case Change::kOpening:
      return On(record.opening());
    case Change::kSessionOpened:
      return On(record.session_opened());
    case Change::kSessionEnded:
      return On(record.session_ended());
    case Change::kBlockGranted:
      return On(record.block_granted());
    case Change::kBlockFreed:
      return On(record.block_freed());
    case Change::kRequestsRemembered:
      return On(record.requests_remembered());
    case Change::kSegmentClaimed:
      return On(record.segment_claimed());
    case Change::kSegmentClaimEnded:
      return On(record.segment_claim_ended());
    case Change::kSegmentPublished:
      return On(record.segment_published());
    case Change::kSegmentUnpublished:
      return On(record.segment_unpublished());
    case Change::kSegmentAttached:
      return On(record.segment_attached());
    case Change::kSegmentDetached:
      return On(record.segment_detached());
    case Change::CHANGE_NOT_SET:
      break;
  }
  return Contradicts("is of a kind that its format does not have");
}

JournalState::Session* JournalState::Find(SessionId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

absl::Status JournalState::On(const journal::Opening& change) {
  if (change.format() > kJournalFormat) return absl::UnimplementedError("has a newer format");
  if (change.format() == 0) return Contradicts("has no format");
  if (change.epoch() == 0 || change.epoch() > std::numeric_limits<Epoch>::max())
    return Contradicts("has no epoch that an id could carry");
  if (is_open() &&
      (change.boot_id() != opening_.boot_id() || change.device_uuid() != opening_.device_uuid()))
    return Contradicts("is of another boot or device than the records before it");
  // A later opening begins another life of the daemon. It ends nothing: the sessions and segments
  // are restored in that life.
  opening_ = change;
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::SessionOpened& change) {
  if (change.session_id() == 0) return Contradicts("opens a session without an id");
  if (change.pid() <= 0) return Contradicts("opens a session of no process");
  const auto [place, added] = sessions_.try_emplace(change.session_id());
  if (!added) return Contradicts("opens a session that is open");
  place->second.opened = change;
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::SessionEnded& change) {
  const auto found = sessions_.find(change.session_id());
  if (found == sessions_.end()) return Contradicts("ends a session that does not exist");
  for (const auto& [allocation, block] : found->second.blocks) {
    regions_.Release(RangeOf(block));
    allocations_.erase(allocation);
  }
  for (const SegmentKey& claim : found->second.claims) claims_.erase(claim);
  // Detach changes the lists of the segments, not the list of this session, which is read here.
  for (const auto& [attachment, place] : found->second.attachments) Detach(place, attachment);
  sessions_.erase(found);
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::BlockGranted& change) {
  Session* session = Find(change.session_id());
  if (session == nullptr) return Contradicts("grants a block to a session that does not exist");
  if (change.allocation_id() == 0 || change.request_id() == 0)
    return Contradicts("grants a block without an id");
  if (allocations_.contains(change.allocation_id()))
    return Contradicts("grants a block under an id that is in use");
  if (change.requested_bytes() == 0 || change.requested_bytes() > change.size_bytes())
    return Contradicts("grants less than was asked for");
  const absl::string_view fault = regions_.Take(change.session_id(), RangeOf(change));
  if (!fault.empty()) return Contradicts(fault);
  allocations_.emplace(change.allocation_id(), change.session_id());
  session->blocks.emplace(change.allocation_id(), change);
  session->requests.Note(change.request_id(),
                         {RequestWindow::State::kGranted, change.allocation_id()});
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::BlockFreed& change) {
  Session* session = Find(change.session_id());
  if (session == nullptr) return Contradicts("frees a block of a session that does not exist");
  const auto block = session->blocks.find(change.allocation_id());
  if (block == session->blocks.end())
    return Contradicts("frees a block that its session does not hold");
  regions_.Release(RangeOf(block->second));
  allocations_.erase(change.allocation_id());
  session->blocks.erase(block);
  // 0: the daemon has freed it, so there is no request that could be repeated.
  if (change.request_id() != 0) {
    session->requests.Note(change.request_id(),
                           {RequestWindow::State::kFreed, change.allocation_id()});
  }
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::RequestsRemembered& change) {
  Session* session = Find(change.session_id());
  if (session == nullptr) return Contradicts("remembers requests of a session that does not exist");
  if (change.requests_size() > static_cast<int>(RequestWindow::kRemembered))
    return Contradicts("remembers more requests than a session has");
  session->requests = RequestWindow();
  for (const journal::RequestsRemembered::Request& one : change.requests()) {
    RequestWindow::State state = RequestWindow::State::kGranted;
    if (one.freed()) state = RequestWindow::State::kFreed;
    if (one.attached()) state = RequestWindow::State::kAttached;
    session->requests.Note(one.request_id(), {state, one.id()});
  }
  return absl::OkStatus();
}

namespace {

using Visit = absl::FunctionRef<absl::Status(const journal::Record&)>;

absl::Status VisitSession(const JournalState::Session& session, Visit visit) {
  journal::Record record;
  // One record for all: to set one member of its oneof clears the others.
  *record.mutable_session_opened() = session.opened;
  TENURE_RETURN_IF_ERROR(visit(record));
  for (const auto& [id, block] : session.blocks) {
    *record.mutable_block_granted() = block;
    TENURE_RETURN_IF_ERROR(visit(record));
  }
  // After the blocks: their grants note requests too, but in the order of the allocation ids. This
  // record replaces them all, in the order in which they were made.
  journal::RequestsRemembered& remembered = *record.mutable_requests_remembered();
  remembered.set_session_id(session.opened.session_id());
  session.requests.ForEach([&](uint64_t request_id, const RequestWindow::Request& request) {
    journal::RequestsRemembered::Request& one = *remembered.add_requests();
    one.set_request_id(request_id);
    one.set_id(request.id);
    one.set_freed(request.state == RequestWindow::State::kFreed);
    one.set_attached(request.state == RequestWindow::State::kAttached);
  });
  return visit(record);
}

absl::Status VisitSegment(const JournalState::Segment& segment, Visit visit) {
  journal::Record record;
  *record.mutable_segment_published()->mutable_segment() = segment.segment;
  TENURE_RETURN_IF_ERROR(visit(record));
  for (const auto& [id, attachment] : segment.attachments) {
    *record.mutable_segment_attached() = attachment;
    TENURE_RETURN_IF_ERROR(visit(record));
  }
  if (segment.published) return absl::OkStatus();
  record.mutable_segment_unpublished()->set_name(segment.segment.name());
  record.mutable_segment_unpublished()->set_uid(segment.segment.uid());
  return visit(record);
}

}  // namespace

absl::Status JournalState::ForEachRecord(Visit visit) const {
  if (!is_open()) return absl::OkStatus();
  journal::Record record;
  *record.mutable_opening() = opening_;
  TENURE_RETURN_IF_ERROR(visit(record));
  for (const auto& [id, session] : sessions_) {
    TENURE_RETURN_IF_ERROR(VisitSession(session, visit));
  }
  // In the order of their publishing: a segment that was unpublished comes, with its unpublishing,
  // before a later segment of the same name.
  for (const auto& [place, segment] : segments_) {
    TENURE_RETURN_IF_ERROR(VisitSegment(segment, visit));
  }
  for (const auto& [key, session] : claims_) {
    journal::SegmentClaimed& claim = *record.mutable_segment_claimed();
    claim.set_uid(key.owner);
    claim.set_name(key.name);
    claim.set_session_id(session);
    TENURE_RETURN_IF_ERROR(visit(record));
  }
  return absl::OkStatus();
}

}  // namespace tenure::server
