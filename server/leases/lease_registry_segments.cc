// Segments of sessions: publish, attach, detach, unpublish.
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {
namespace {

absl::Status NoSuchSegment(const SegmentKey& key) {
  return absl::NotFoundError(absl::StrCat("there is no segment '", key.name, "' of uid:", key.owner,
                                          " that this process may attach; `tenurectl segments` "
                                          "lists those that it may"));
}

absl::Status NoSuchAttachment(AttachmentId id) {
  return absl::NotFoundError(
      absl::StrCat("this session has no attachment ", id,
                   "; it was detached, or its segment was taken back by its owner"));
}

bool LiesInside(const SegmentTensor& tensor, Bytes block) {
  return tensor.offset <= block && tensor.size <= block - tensor.offset;
}

}  // namespace

absl::StatusOr<AttachmentId> LeaseRegistry::Publish(const Peer& caller, SessionId id,
                                                    uint64_t request_id, const std::string& name,
                                                    absl::Span<const AllocationId> allocations,
                                                    SegmentNotes notes) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, id);
  if (!session.ok()) return session.status();
  if (const RequestWindow::Request* before = (*session)->requests.Find(request_id)) {
    const bool attached = before->state == RequestWindow::State::kAttached;
    if (attached && segments_.FindAttachment(before->id, id) != nullptr) return before->id;
    return RequestIdTaken(request_id);
  }
  const SegmentKey key{caller.uid(), name};
  if (absl::Status taken = segments_.CheckPublish(key, id); !taken.ok()) return taken;
  if (absl::Status contents = CheckContents(**session, allocations, notes); !contents.ok()) {
    return contents;
  }
  const bool claimed = segments_.claims().contains(key);
  Segment segment;
  segment.notes = std::move(notes);
  segment.published = clock_.Now();
  for (const AllocationId allocation : allocations) {
    Block block = Detach(allocation);
    const Bytes size = block.requested();
    segment.blocks.push_back(SegmentBlock{SessionPool::TakeRegion(std::move(block)), size});
  }
  segment.journaled = journal_.on() && segment.blocks.front().region.kind() == MemoryKind::kVmmFd;
  const bool journaled = segment.journaled;
  segments_.Publish(key, std::move(segment));
  const std::optional<AttachmentId> attachment = segments_.Attach(key, id);
  TENURE_CHECK(attachment);
  (*session)->requests.Note(request_id, {RequestWindow::State::kAttached, *attachment});
  absl::Status noted;
  if (journaled) {
    noted = journal_.SegmentPublished(key, segments_.segments().at(key), id, allocations,
                                      *attachment, request_id);
  } else if (claimed) {
    noted = journal_.SegmentClaimEnded(key);
  }
  if (!noted.ok()) return noted;
  return *attachment;
}

absl::Status LeaseRegistry::CheckContents(const Session& session,
                                          absl::Span<const AllocationId> allocations,
                                          const SegmentNotes& notes) const {
  absl::flat_hash_set<AllocationId> seen;
  for (const AllocationId allocation : allocations) {
    if (!session.allocations.contains(allocation)) return UnknownAllocation(allocation);
    if (!seen.insert(allocation).second) {
      return absl::InvalidArgumentError(absl::StrCat("allocation ", allocation, " is named twice"));
    }
    if (KindOf(allocation) != KindOf(allocations.front())) {
      return absl::InvalidArgumentError(
          "the blocks of a segment are of one kind, because what is promised of it depends on "
          "that");
    }
    if (!allocations_.Find(allocation)->block.direct()) {
      return absl::InvalidArgumentError(
          absl::StrCat("allocation ", allocation,
                       " shares its region with others of this session, which would be shared with "
                       "everybody who attaches; allocate it with PLACEMENT_DIRECT"));
    }
  }
  for (const SegmentTensor& tensor : notes.tensors) {
    if (tensor.block >= allocations.size() ||
        !LiesInside(tensor, allocations_.Find(allocations[tensor.block])->block.requested())) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", tensor.name, "' of ", tensor.size.value(), " bytes at ",
                       tensor.offset.value(), " does not lie inside block ", tensor.block));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::variant<SegmentGrant, SegmentClaim>> LeaseRegistry::Attach(
    const Peer& caller, SessionId id, uint64_t request_id, const SegmentKey& key, bool claim) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, id);
  if (!session.ok()) return session.status();
  if (const RequestWindow::Request* before = (*session)->requests.Find(request_id)) {
    const Attachment* const attachment = segments_.FindAttachment(before->id, id);
    if (before->state != RequestWindow::State::kAttached || attachment == nullptr ||
        attachment->segment != key) {
      return RequestIdTaken(request_id);
    }
    return GrantOf(before->id, segments_.SegmentOf(*attachment));
  }
  if (draining_) return Draining();
  if (IsSuspended(**session)) return Suspended(id);
  const Segment* const segment = segments_.Find(key, caller.tenant());
  if (segment == nullptr) {
    // Only an owner can load under its name.
    if (!claim || key.owner != caller.uid()) return NoSuchSegment(key);
    const absl::Status possible = segments_.CheckPublish(key, id);
    if (absl::IsFailedPrecondition(possible)) return SegmentClaim::kOthers;
    if (!possible.ok()) return possible;
    const bool claimed_before = segments_.claims().contains(key);
    TENURE_CHECK(segments_.Claim(key, id));
    if (claimed_before) return SegmentClaim::kOurs;
    absl::Status noted = journal_.SessionOpened(id, (*session)->open_request, *(*session)->lease);
    if (noted.ok()) noted = journal_.SegmentClaimed(key, id);
    if (!noted.ok()) return noted;
    return SegmentClaim::kOurs;
  }
  const std::optional<AttachmentId> attachment = segments_.Attach(key, id);
  if (!attachment) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the daemon has ", kMaxSlots, " attachments, which is as many as it can"));
  }
  (*session)->requests.Note(request_id, {RequestWindow::State::kAttached, *attachment});
  if (segment->journaled) {
    absl::Status noted = journal_.SessionOpened(id, (*session)->open_request, *(*session)->lease);
    if (noted.ok()) noted = journal_.SegmentAttached(key, id, *attachment, request_id);
    if (!noted.ok()) return noted;
  }
  return GrantOf(*attachment, *segment);
}

SegmentGrant LeaseRegistry::GrantOf(AttachmentId attachment, const Segment& segment) {
  SegmentGrant grant{attachment, segment.notes, {}, segment.journaled};
  for (const SegmentBlock& block : segment.blocks) {
    const Region& region = block.region;
    const MemoryKind kind = region.kind();
    grant.blocks.push_back(
        SegmentGrant::Block{region.id(), region.size(), block.size, kind,
                            kind == MemoryKind::kCudaIpc ? region.handle() : cuda::IpcHandle()});
  }
  return grant;
}

absl::Status LeaseRegistry::Detach(const Peer& caller, SessionId id, AttachmentId attachment) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, id);
  if (!session.ok()) return session.status();
  if (segments_.FindAttachment(attachment, id) == nullptr) return NoSuchAttachment(attachment);
  return EndAttachment(attachment, id);
}

absl::Status LeaseRegistry::EndAttachment(AttachmentId attachment, SessionId session) {
  const bool journaled =
      segments_.SegmentOf(*segments_.FindAttachment(attachment, session)).journaled;
  segments_.Detach(attachment);
  return journaled ? journal_.SegmentDetached(session, attachment) : absl::OkStatus();
}

void LeaseRegistry::EndInSegments(SessionId session) {
  // A record that cannot be written has failed the health; the daemon ends in any case.
  for (const AttachmentId attachment : segments_.AttachmentsOf(session)) {
    EndAttachment(attachment, session).IgnoreError();
  }
  for (const SegmentKey& key : segments_.ClaimsOf(session)) {
    segments_.EndClaim(key, session);
    journal_.SegmentClaimEnded(key).IgnoreError();
  }
}

absl::Status LeaseRegistry::EndClaim(const Peer& caller, SessionId id, const SegmentKey& key) {
  cuda::NoDriverCallsLock lock(&mu_);
  const absl::StatusOr<Session*> session = Find(caller, id);
  if (!session.ok()) return session.status();
  if (segments_.EndClaim(key, id)) return journal_.SegmentClaimEnded(key);
  return absl::NotFoundError(
      absl::StrCat("this session is not loading a segment '", key.name, "'"));
}

absl::Status LeaseRegistry::Unpublish(const SegmentKey& key, bool force) {
  absl::StatusOr<std::vector<SegmentBlock>> blocks;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const auto found = segments_.segments().find(key);
    const bool journaled = found != segments_.segments().end() && found->second.journaled;
    if (force) {
      for (const auto& [attachment, session] : segments_.AttachedTo(key)) {
        if (absl::Status noted = EndAttachment(attachment, session); !noted.ok()) return noted;
      }
    }
    blocks = segments_.Unpublish(key);
    if (blocks.ok() && journaled) {
      // If it cannot be written the daemon ends, and the next finds the segment whole.
      journal_.SegmentUnpublished(key).IgnoreError();
    }
  }
  if (!blocks.ok()) return blocks.status();
  for (SegmentBlock& block : *blocks) heap_.Return(std::move(block.region), /*unmapped=*/false);
  return absl::OkStatus();
}

absl::StatusOr<const Region*> LeaseRegistry::FindRegion(SessionId session,
                                                        const SegmentBlockName& name) const {
  const Attachment* const attachment = segments_.FindAttachment(name.attachment, session);
  if (attachment == nullptr) return NoSuchAttachment(name.attachment);
  const std::vector<SegmentBlock>& blocks = segments_.SegmentOf(*attachment).blocks;
  if (name.block < blocks.size()) return &blocks[name.block].region;
  return absl::NotFoundError(absl::StrCat("segment '", attachment->segment.name, "' has ",
                                          blocks.size(), " blocks, no block ", name.block));
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
    info.kind = segment.blocks.front().region.kind();
    info.survives_daemon = segment.journaled;
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
    info.loading = session;
    list.push_back(std::move(info));
  }
  return list;
}

}  // namespace tenure::server
