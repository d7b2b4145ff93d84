// Segments of the registry: publish, attach, claim, detach, unpublish.
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/status_macros.h"
#include "server/leases/lease_registry.h"
#include "server/leases/lease_registry_internal.h"

namespace tenure::server {
namespace {

// The answer is the same for a segment that does not exist and for one that the caller may not
// attach: a caller must not learn the names of other users' segments.
absl::Status NoSuchSegment(const SegmentKey& key) {
  return absl::NotFoundError(absl::StrCat("there is no segment '", key.name, "' of uid:", key.owner,
                                          " that this process may attach; `tenurectl segments` "
                                          "lists those that it may"));
}

absl::Status NoSuchAttachment(AttachmentId id) {
  return absl::NotFoundError(
      absl::StrCat("this session has no attachment ", id,
                   "; it was detached, or the owner has unpublished its segment"));
}

bool LiesInside(const SegmentTensor& tensor, Bytes block) {
  // Not offset + size <= block: the sum of two numbers of a client may wrap.
  return tensor.offset <= block && tensor.size <= block - tensor.offset;
}

}  // namespace

absl::StatusOr<AttachmentId> LeaseRegistry::Publish(const Peer& caller, SessionId id,
                                                    uint64_t request_id, const std::string& name,
                                                    absl::Span<const AllocationId> allocations,
                                                    SegmentNotes notes) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
  if (const RequestWindow::Request* before = session->requests.Find(request_id)) {
    const bool attached = before->state == RequestWindow::State::kAttached;
    if (attached && segments_.FindAttachment(before->id, id) != nullptr) return before->id;
    return RequestIdTaken(request_id);
  }
  // All checks come before the first change: after a refusal the session still has its blocks.
  const SegmentKey key{caller.uid(), name};
  TENURE_RETURN_IF_ERROR(segments_.CheckPublish(key, id));
  TENURE_RETURN_IF_ERROR(CheckContents(*session, allocations, notes));
  // Read before Publish, which ends the claim.
  const bool claimed = segments_.claims().contains(key);
  Segment segment;
  segment.notes = std::make_shared<const SegmentNotes>(std::move(notes));
  segment.published = clock_.Now();
  for (const AllocationId allocation : allocations) {
    Block block = TakeBlock(allocation);
    const Bytes size = block.requested();
    // The block ends without returning to its pool, which is why it may end under the lock.
    segment.blocks.push_back(SegmentBlock{SessionPool::TakeRegion(std::move(block)), size});
  }
  const bool survives = journal_.Survives(segment.kind());
  segments_.Publish(key, std::move(segment));
  // CheckPublish left room for one attachment.
  const absl::StatusOr<AttachmentId> attachment = segments_.Attach(key, id);
  TENURE_CHECK(attachment.ok());
  session->requests.Note(request_id, {RequestWindow::State::kAttached, *attachment});
  if (survives) {
    TENURE_RETURN_IF_ERROR(journal_.SegmentPublished(key, segments_.segments().at(key), id,
                                                     allocations, *attachment, request_id));
  } else if (claimed) {
    // A claim is recorded whatever kind the segment gets. Here no other record ends it.
    TENURE_RETURN_IF_ERROR(journal_.SegmentClaimEnded(key));
  }
  return *attachment;
}

absl::Status LeaseRegistry::CheckContents(const Session& session,
                                          absl::Span<const AllocationId> allocations,
                                          const SegmentNotes& notes) const {
  // A block that is named twice would have to leave the session twice.
  absl::flat_hash_set<AllocationId> seen;
  for (const AllocationId allocation : allocations) {
    if (!session.allocations.contains(allocation)) return UnknownAllocation(allocation);
    if (!seen.insert(allocation).second) {
      return absl::InvalidArgumentError(absl::StrCat("allocation ", allocation, " is named twice"));
    }
    if (KindOf(allocation) != KindOf(allocations.front())) {
      return absl::InvalidArgumentError(
          "the blocks of a segment are of one kind, because the kind decides whether it survives "
          "the daemon");
    }
    if (!allocations_.Find(allocation)->block.direct()) {
      return absl::InvalidArgumentError(
          absl::StrCat("allocation ", allocation,
                       " shares its region with others of this session, which every process that "
                       "attaches could reach; allocate it with PLACEMENT_DIRECT"));
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

absl::StatusOr<std::variant<SegmentGrant, SegmentClaim>> LeaseRegistry::AttachSegment(
    const Peer& caller, SessionId id, uint64_t request_id, const SegmentKey& key, bool claim) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_ASSIGN_OR_RETURN(Session* const session, Find(caller, id));
  if (const RequestWindow::Request* before = session->requests.Find(request_id)) {
    const Attachment* const attachment = segments_.FindAttachment(before->id, id);
    if (before->state != RequestWindow::State::kAttached || attachment == nullptr ||
        attachment->segment != key) {
      return RequestIdTaken(request_id);
    }
    return MakeSegmentGrant(before->id, segments_.SegmentOf(*attachment));
  }
  if (draining_) return Draining();
  if (IsSuspended(id, *session)) return Suspended(id);
  const Segment* const segment = segments_.Find(key, caller.tenant());
  if (segment == nullptr) {
    // A session can publish only under its own user's names, so only there it may claim one.
    if (!claim || key.owner != caller.uid()) return NoSuchSegment(key);
    TENURE_ASSIGN_OR_RETURN(const SegmentClaim claimed, ClaimSegment(id, *session, key));
    return claimed;
  }
  TENURE_ASSIGN_OR_RETURN(const AttachmentId attachment, segments_.Attach(key, id));
  session->requests.Note(request_id, {RequestWindow::State::kAttached, attachment});
  if (journal_.Survives(segment->kind())) {
    TENURE_RETURN_IF_ERROR(journal_.SegmentAttached(
        key, JournaledSession{id, session->open_request, *session->lease}, attachment, request_id));
  }
  return MakeSegmentGrant(attachment, *segment);
}

absl::StatusOr<SegmentClaim> LeaseRegistry::ClaimSegment(SessionId id, const Session& session,
                                                         const SegmentKey& key) {
  const absl::Status possible = segments_.CheckPublish(key, id);
  if (absl::IsFailedPrecondition(possible)) return SegmentClaim::kHeldByOther;
  TENURE_RETURN_IF_ERROR(possible);
  // A repeated request finds the session's own claim, which the journal has already.
  if (segments_.claims().contains(key)) return SegmentClaim::kGranted;
  TENURE_CHECK(segments_.Claim(key, id));
  TENURE_RETURN_IF_ERROR(
      journal_.SegmentClaimed(key, JournaledSession{id, session.open_request, *session.lease}));
  return SegmentClaim::kGranted;
}

SegmentGrant LeaseRegistry::MakeSegmentGrant(AttachmentId attachment,
                                             const Segment& segment) const {
  SegmentGrant grant{attachment, segment.notes, {}, journal_.Survives(segment.kind())};
  for (const SegmentBlock& block : segment.blocks) {
    const Region& region = block.region;
    grant.blocks.push_back(SegmentGrant::Block{region.id(), region.size(), block.size,
                                               region.kind(), HandleOf(region)});
  }
  return grant;
}

absl::Status LeaseRegistry::DetachSegment(const Peer& caller, SessionId id,
                                          AttachmentId attachment) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_RETURN_IF_ERROR(Find(caller, id).status());
  if (segments_.FindAttachment(attachment, id) == nullptr) return NoSuchAttachment(attachment);
  return EndAttachment(attachment, id);
}

absl::Status LeaseRegistry::EndAttachment(AttachmentId attachment, SessionId session) {
  // Before Detach: the attachment leads to its segment.
  const MemoryKind kind =
      segments_.SegmentOf(*segments_.FindAttachment(attachment, session)).kind();
  segments_.Detach(attachment);
  if (!journal_.Survives(kind)) return absl::OkStatus();
  return journal_.SegmentDetached(session, attachment);
}

void LeaseRegistry::EndInSegments(SessionId session) {
  // The session ends in any case. A record that cannot be written has failed the health, and the
  // next life of the daemon ends the attachment, because the session ends there too.
  while (true) {
    cuda::NoDriverCallsLock lock(&mu_);
    for (size_t left = kMostUnderLock; left > 0; --left) {
      const SegmentTable::Holdings* const holdings = segments_.HoldingsOf(session);
      if (holdings == nullptr) return;
      if (!holdings->attachments.empty()) {
        EndAttachment(*holdings->attachments.begin(), session).IgnoreError();
        continue;
      }
      const SegmentKey key = *holdings->claims.begin();
      segments_.EndClaim(key, session);
      journal_.SegmentClaimEnded(key).IgnoreError();
    }
  }
}

absl::Status LeaseRegistry::EndClaim(const Peer& caller, SessionId id, const SegmentKey& key) {
  cuda::NoDriverCallsLock lock(&mu_);
  TENURE_RETURN_IF_ERROR(Find(caller, id).status());
  if (segments_.EndClaim(key, id)) return journal_.SegmentClaimEnded(key);
  return absl::NotFoundError(
      absl::StrCat("this session is not loading a segment '", key.name, "'"));
}

absl::StatusOr<bool> LeaseRegistry::DetachSome(const SegmentKey& key) {
  const auto found = segments_.segments().find(key);
  if (found == segments_.segments().end()) return true;
  for (size_t left = kMostUnderLock; left > 0; --left) {
    if (found->second.attachments.empty()) return true;
    const AttachmentId attachment = *found->second.attachments.begin();
    TENURE_RETURN_IF_ERROR(EndAttachment(attachment, segments_.AttachedSession(attachment)));
  }
  return false;
}

absl::Status LeaseRegistry::Unpublish(const SegmentKey& key, bool force) {
  std::vector<SegmentBlock> blocks;
  for (bool ended = false; !ended;) {
    cuda::NoDriverCallsLock lock(&mu_);
    if (force) {
      TENURE_ASSIGN_OR_RETURN(const bool detached, DetachSome(key));
      // The others, and those that attach meanwhile, after the lock was free.
      if (!detached) continue;
    }
    TENURE_ASSIGN_OR_RETURN(blocks, segments_.Unpublish(key));
    ended = true;
    if (journal_.Survives(blocks.front().region.kind())) {
      // If it cannot be written the daemon ends, and its next life restores the whole segment.
      journal_.SegmentUnpublished(key).IgnoreError();
    }
  }
  // Never as unmapped: sessions that were attached, and the publisher, may still map the regions.
  for (SegmentBlock& block : blocks) heap_.Return(std::move(block.region), /*unmapped=*/false);
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

}  // namespace tenure::server
