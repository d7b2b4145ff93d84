// Segments in the journal's state: claims, publishing, attachments.
#include "common/check.h"
#include "common/status_macros.h"
#include "server/journal/journal_state.h"

namespace tenure::server {
namespace {

template <typename Named>
SegmentKey KeyOf(const Named& named) {
  return {named.uid(), named.name()};
}

JournalRegions::Range RangeOf(const journal::Segment::Block& block) {
  return {block.region_id(), block.region_bytes(), 0, block.size_bytes()};
}

journal::SegmentAttached PublishersAttachment(const journal::SegmentPublished& published) {
  journal::SegmentAttached attached;
  attached.set_name(published.segment().name());
  attached.set_uid(published.segment().uid());
  attached.set_session_id(published.session_id());
  attached.set_attachment_id(published.attachment_id());
  attached.set_request_id(published.request_id());
  return attached;
}

bool TensorsLieInBlocks(const journal::Segment& segment) {
  for (const journal::Segment::Tensor& tensor : segment.tensors()) {
    if (tensor.block() >= static_cast<uint32_t>(segment.blocks_size())) return false;
    // The size first, so that the subtraction cannot wrap; the sum of offset and size could.
    const uint64_t whole = segment.blocks(static_cast<int>(tensor.block())).size_bytes();
    if (tensor.size_bytes() > whole || tensor.offset_bytes() > whole - tensor.size_bytes())
      return false;
  }
  return true;
}

}  // namespace

absl::Status JournalState::On(const journal::SegmentClaimed& change) {
  Session* session = Find(change.session_id());
  if (session == nullptr) return Contradicts("claims a name for a session that does not exist");
  if (change.name().empty()) return Contradicts("claims no name");
  if (!claims_.try_emplace(KeyOf(change), change.session_id()).second)
    return Contradicts("claims a name that is claimed");
  session->claims.insert(KeyOf(change));
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::SegmentClaimEnded& change) {
  const auto claim = claims_.find(KeyOf(change));
  if (claim == claims_.end()) return Contradicts("ends a claim that does not exist");
  // The session exists: its end would have ended the claim.
  sessions_.at(claim->second).claims.erase(claim->first);
  claims_.erase(claim);
  return absl::OkStatus();
}

absl::Status JournalState::CheckOrigin(const journal::SegmentPublished& change,
                                       const Session& session) const {
  const journal::Segment& segment = change.segment();
  if (change.allocation_ids_size() != segment.blocks_size())
    return Contradicts("publishes another number of blocks than it takes from the session");
  std::set<AllocationId> seen;
  for (int i = 0; i < segment.blocks_size(); ++i) {
    const auto held = session.blocks.find(change.allocation_ids(i));
    if (held == session.blocks.end() || !seen.insert(held->first).second)
      return Contradicts("publishes a block that the session does not hold");
    const journal::BlockGranted& block = held->second;
    if (block.region_id() != segment.blocks(i).region_id() ||
        block.region_bytes() != segment.blocks(i).region_bytes() ||
        block.size_bytes() < segment.blocks(i).size_bytes())
      return Contradicts("publishes a block that is not the one that the session holds");
    if (!regions_.IsAlone(RangeOf(block)))
      return Contradicts("publishes a block that is not alone in its region");
  }
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::SegmentPublished& change) {
  const journal::Segment& segment = change.segment();
  if (segment.name().empty()) return Contradicts("publishes under no name");
  if (published_.contains(KeyOf(segment))) return Contradicts("publishes under a name in use");
  if (!TensorsLieInBlocks(segment)) return Contradicts("puts a tensor outside its block");
  for (const journal::Segment::Block& block : segment.blocks()) {
    if (block.size_bytes() == 0) return Contradicts("publishes an empty block");
  }
  Session* session = nullptr;
  const auto claim = claims_.find(KeyOf(segment));
  if (change.session_id() != 0) {
    session = Find(change.session_id());
    if (session == nullptr) return Contradicts("publishes for a session that does not exist");
    TENURE_RETURN_IF_ERROR(CheckOrigin(change, *session));
    if (attachments_.contains(change.attachment_id()))
      return Contradicts("attaches its publisher under an id that is in use");
    if (claim != claims_.end() && claim->second != change.session_id())
      return Contradicts("publishes under a name that another session has claimed");
  } else if (change.allocation_ids_size() != 0) {
    return Contradicts("takes blocks from no session");
  }
  // All checks of the session are done. Its ranges leave the books before the segment takes them,
  // or they would overlap themselves.
  for (const AllocationId id : change.allocation_ids()) {
    const auto block = session->blocks.find(id);
    regions_.Release(RangeOf(block->second));
    allocations_.erase(id);
    session->blocks.erase(block);
  }
  for (int i = 0; i < segment.blocks_size(); ++i) {
    const absl::string_view fault =
        regions_.Take(JournalRegions::kSegments, RangeOf(segment.blocks(i)));
    if (fault.empty()) continue;
    // The blocks of a session fit, because their ranges have just left the same places. So this is
    // a record of a folded file, and no session has changed: undoing the ranges undoes everything.
    TENURE_CHECK(session == nullptr);
    for (int taken = 0; taken < i; ++taken) regions_.Release(RangeOf(segment.blocks(taken)));
    return Contradicts(fault);
  }
  if (session != nullptr && claim != claims_.end()) {
    session->claims.erase(claim->first);
    claims_.erase(claim);
  }
  published_.emplace(KeyOf(segment), next_place_);
  segments_[next_place_++].segment = segment;
  if (session != nullptr && change.attachment_id() != 0)
    Attach(*session, PublishersAttachment(change));
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::SegmentUnpublished& change) {
  const auto found = published_.find(KeyOf(change));
  if (found == published_.end()) return Contradicts("unpublishes a segment that does not exist");
  // The name is free from here on. The regions stay in use until the last session has detached.
  const uint64_t place = found->second;
  published_.erase(found);
  segments_.at(place).published = false;
  EndIfUnused(place);
  return absl::OkStatus();
}

absl::Status JournalState::On(const journal::SegmentAttached& change) {
  Session* session = Find(change.session_id());
  if (session == nullptr) return Contradicts("attaches a session that does not exist");
  if (!published_.contains(KeyOf(change)))
    return Contradicts("attaches to a segment that does not exist");
  if (change.attachment_id() == 0) return Contradicts("attaches without an id");
  if (attachments_.contains(change.attachment_id()))
    return Contradicts("attaches under an id that is in use");
  Attach(*session, change);
  return absl::OkStatus();
}

void JournalState::Attach(Session& session, const journal::SegmentAttached& attached) {
  const uint64_t place = published_.at(KeyOf(attached));
  attachments_.insert(attached.attachment_id());
  session.attachments.emplace(attached.attachment_id(), place);
  segments_.at(place).attachments.emplace(attached.attachment_id(), attached);
  session.requests.Note(attached.request_id(),
                        {RequestWindow::State::kAttached, attached.attachment_id()});
}

absl::Status JournalState::On(const journal::SegmentDetached& change) {
  Session* session = Find(change.session_id());
  if (session == nullptr) return Contradicts("detaches a session that does not exist");
  const auto found = session->attachments.find(change.attachment_id());
  if (found == session->attachments.end())
    return Contradicts("ends an attachment that the session does not have");
  const uint64_t place = found->second;
  session->attachments.erase(found);
  Detach(place, change.attachment_id());
  return absl::OkStatus();
}

void JournalState::Detach(uint64_t place, uint64_t attachment) {
  TENURE_CHECK(segments_.at(place).attachments.erase(attachment) == 1);
  attachments_.erase(attachment);
  EndIfUnused(place);
}

void JournalState::EndIfUnused(uint64_t place) {
  // A segment without a name lives on while a session is attached: its regions are still in use.
  const auto found = segments_.find(place);
  if (found->second.published || !found->second.attachments.empty()) return;
  for (const journal::Segment::Block& block : found->second.segment.blocks()) {
    regions_.Release(RangeOf(block));
  }
  segments_.erase(found);
}

}  // namespace tenure::server
