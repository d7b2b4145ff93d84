// The part of Session that deals with segments.
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/region_mapping.h"
#include "client/session/session.h"
#include "client/session/wire.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

// The one place where the daemon's answer is checked: from here on every tensor lies in its block,
// and every block in its region.
absl::StatusOr<Attachment> ReadAttachment(const v1::AttachSegmentResponse& response) {
  Attachment attachment;
  attachment.id = response.attachment_id();
  attachment.digest = response.digest();
  attachment.survives_daemon = response.survives_daemon();
  if (response.blocks().empty() || response.digest().size() != kDigestBytes) {
    return absl::InternalError("the daemon described a segment without blocks or digest");
  }
  for (const v1::AttachSegmentResponse::Block& block : response.blocks()) {
    if (block.size_bytes() > block.region_size_bytes()) {
      return absl::InternalError("the daemon described a block that reaches beyond its region");
    }
    attachment.blocks.push_back({0, Bytes(block.size_bytes()), FromWire(block.memory_kind())});
  }
  for (const v1::SegmentTensor& wire : response.tensors()) {
    const SegmentTensor& tensor = attachment.tensors.emplace_back(FromWire(wire));
    if (tensor.block >= attachment.blocks.size()) {
      return absl::InternalError("the daemon described a tensor in no block");
    }
    const Bytes block = attachment.blocks[tensor.block].size;
    if (tensor.offset > block || tensor.size > block - tensor.offset) {
      return absl::InternalError("the daemon described a tensor that reaches beyond its block");
    }
  }
  return attachment;
}

// REQUIRES: the blocks are mapped, or this process maps nothing.
void SetTensorPointers(Attachment& attachment) {
  for (SegmentTensor& tensor : attachment.tensors) {
    const cuda::DevicePointer base = attachment.blocks[tensor.block].pointer;
    tensor.pointer = base == 0 ? 0 : base + tensor.offset.value();
  }
}

}  // namespace

absl::Status Session::MapBlock(const v1::AttachSegmentResponse::Block& block, uint32_t index,
                               Attachment& attachment) {
  RegionSource source;
  source.kind = block.memory_kind();
  source.size = Bytes(block.region_size_bytes());
  source.ipc_handle = block.ipc_handle();
  source.access = cuda::VmmAccess::kRead;
  source.fd_request.mutable_segment_block()->set_attachment_id(attachment.id);
  source.fd_request.mutable_segment_block()->set_block(index);
  TENURE_ASSIGN_OR_RETURN(
      const cuda::DevicePointer base,
      segment_regions_->Acquire(
          block.region_id(), [&] { return MapRegion(*device_, *stub_, source); },
          Deadline::After(stub_->call_timeout())));
  attachment.regions.push_back(block.region_id());
  attachment.blocks[index].pointer = base;
  return absl::OkStatus();
}

absl::StatusOr<Attachment> Session::MapAttached(v1::AttachSegmentResponse response) {
  absl::StatusOr<Attachment> attachment = ReadAttachment(response);
  if (!attachment.ok()) {
    // The daemon has made the attachment, although its description is wrong.
    upkeep_->QueueDetach(response.attachment_id());
    return attachment;
  }
  for (int i = 0; maps() && i < response.blocks_size(); ++i) {
    const absl::Status mapped = MapBlock(response.blocks(i), static_cast<uint32_t>(i), *attachment);
    if (mapped.ok()) continue;
    // This also unmaps the blocks before this one: attachment.regions has those that were mapped.
    QueueDetach(*attachment);
    return mapped;
  }
  SetTensorPointers(*attachment);
  return attachment;
}

absl::StatusOr<AttachAnswer> Session::Attach(const std::string& name,
                                             std::optional<uint32_t> owner_uid, bool claim) {
  // The segment may survive the daemon, and this attachment or claim with it.
  stub_->ExpectSurvival();
  v1::AttachSegmentRequest request;
  request.set_name(name);
  request.set_claim(claim);
  if (owner_uid) request.set_owner_uid(*owner_uid);
  absl::StatusOr<v1::AttachSegmentResponse> response = stub_->AttachSegment(request);
  if (!response.ok()) return RenewIfUnknown(response.status());
  switch (response->state()) {
    case v1::AttachSegmentResponse::STATE_ATTACHED: {
      TENURE_ASSIGN_OR_RETURN(Attachment attachment, MapAttached(*std::move(response)));
      return attachment;
    }
    case v1::AttachSegmentResponse::STATE_YOURS_TO_LOAD: {
      // The daemon grants the claim to the session: to each of its threads that asks. Only the
      // first of them may load.
      absl::MutexLock lock(&loading_mutex_);
      return loading_.insert(name).second ? LoadClaim::kGranted : LoadClaim::kHeldByOther;
    }
    case v1::AttachSegmentResponse::STATE_LOADING:
      return LoadClaim::kHeldByOther;
    default:
      return absl::InternalError("the daemon answered without the segment's state");
  }
}

void Session::EndLoading(const std::string& name, bool published) {
  if (!published) {
    v1::UnpublishSegmentRequest request;
    request.set_session_id(stub_->session_id());
    request.set_name(name);
    // If this fails, the claim ends with the session.
    stub_->UnpublishSegment(request).IgnoreError();
  }
  // The name is removed after the daemon was told. A thread of this process that asks before is
  // answered kHeldByOther, and not with a claim that is about to be withdrawn.
  absl::MutexLock lock(&loading_mutex_);
  loading_.erase(name);
}

absl::Status Session::RemapPublished(const LeasedBlock& block, uint32_t index,
                                     Attachment& attachment) {
  RegionSource source;
  source.kind = v1::MEMORY_KIND_VMM_FD;
  source.size = block.region_size;
  source.access = cuda::VmmAccess::kRead;
  source.fd_request.mutable_segment_block()->set_attachment_id(attachment.id);
  source.fd_request.mutable_segment_block()->set_block(index);
  // The driver maps CUDA_IPC in one way only, and each handle once per process. So that mapping
  // stays, and moves from one cache to the other.
  bool moved = false;
  const auto map = [&]() -> absl::StatusOr<Mapping> {
    if (block.kind == MemoryKind::kVmmFd) return MapRegion(*device_, *stub_, source);
    moved = true;
    return regions_->Extract(block.region_id);
  };
  const absl::StatusOr<cuda::DevicePointer> base =
      segment_regions_->Acquire(block.region_id, map, Deadline::After(stub_->call_timeout()));
  // Also after an error: the block belongs to the segment now, and the writable mapping must end.
  if (!moved) regions_->Release(block.region_id, RegionCache::WhenEmpty::kUnmap);
  if (!base.ok()) return base.status();
  attachment.regions.push_back(block.region_id);
  attachment.blocks[index].pointer = *base;
  return absl::OkStatus();
}

absl::StatusOr<Attachment> Session::AttachPublished(const Publication& publication) {
  TENURE_ASSIGN_OR_RETURN(AttachAnswer answer,
                          Attach(publication.name, std::nullopt, /*claim=*/false));
  Attachment* const attachment = std::get_if<Attachment>(&answer);
  if (attachment != nullptr && attachment->digest == publication.digest) {
    return std::move(*attachment);
  }
  if (attachment != nullptr) QueueDetach(*attachment);
  return absl::AlreadyExistsError(
      absl::StrCat("segment '", publication.name,
                   "' was published by another process with other contents; unpublish it first"));
}

absl::StatusOr<Attachment> Session::Publish(const Publication& publication,
                                            const std::vector<LeasedBlock>& blocks) {
  const MemoryKind kind = blocks.front().kind;
  if (kind == MemoryKind::kVmmFd) stub_->ExpectSurvival();
  v1::PublishSegmentRequest request;
  request.set_name(publication.name);
  request.set_digest(publication.digest);
  request.mutable_allowed_uids()->Add(publication.allowed_uids.begin(),
                                      publication.allowed_uids.end());
  for (const SegmentTensor& tensor : publication.tensors) *request.add_tensors() = ToWire(tensor);
  for (const LeasedBlock& block : blocks) request.add_allocation_ids(block.allocation_id);
  bool repeated = false;
  const absl::StatusOr<v1::PublishSegmentResponse> response =
      stub_->PublishSegment(std::move(request), &repeated);
  if (absl::IsAlreadyExists(response.status()) && repeated) {
    // A daemon that was restarted between two attempts has the segment, but not the first answer.
    // If the segment has this digest, the first attempt has published it, and this session
    // attaches.
    absl::StatusOr<Attachment> attachment = AttachPublished(publication);
    for (const LeasedBlock& block : blocks) QueueFree(block);
    return attachment;
  }
  if (!response.ok()) {
    for (const LeasedBlock& block : blocks) QueueFree(block);
    return RenewIfUnknown(response.status());
  }
  Attachment attachment;
  attachment.id = response->attachment_id();
  attachment.digest = publication.digest;
  attachment.survives_daemon = kind == MemoryKind::kVmmFd && stub_->session().survives_daemon();
  // From here on the blocks are the segment's, and must not be freed. All are visited, also after a
  // failure, because each has a writable mapping that must end.
  absl::Status failure;
  for (uint32_t i = 0; i < blocks.size(); ++i) {
    attachment.blocks.push_back({0, blocks[i].requested, kind});
    CountIpcBlockGone(blocks[i]);
    if (maps()) failure.Update(RemapPublished(blocks[i], i, attachment));
  }
  if (!failure.ok()) {
    QueueDetach(attachment);
    return absl::Status(failure.code(),
                        absl::StrCat("segment '", publication.name,
                                     "' is published, but this process could not map it for "
                                     "reading: ",
                                     failure.message()));
  }
  attachment.tensors = publication.tensors;
  SetTensorPointers(attachment);
  return attachment;
}

void Session::UnmapSegment(const Attachment& attachment) {
  for (const uint64_t region : attachment.regions) {
    segment_regions_->Release(region, RegionCache::WhenEmpty::kUnmap);
  }
}

absl::Status Session::Detach(const Attachment& attachment) {
  if (InForkedChild()) return Usable();
  // The segment is unmapped before the daemon is told, as in Free.
  UnmapSegment(attachment);
  const absl::Status status = stub_->DetachSegment(attachment.id);
  if (!IsGivenBack(status)) upkeep_->QueueDetach(attachment.id);
  // NOT_FOUND: the segment's owner has ended it, and with it all attachments.
  if (absl::IsNotFound(RenewIfUnknown(status))) return absl::OkStatus();
  return status;
}

void Session::QueueDetach(const Attachment& attachment) {
  if (InForkedChild()) return;
  UnmapSegment(attachment);
  upkeep_->QueueDetach(attachment.id);
}

absl::Status Session::Unpublish(const std::string& name, std::optional<uint32_t> owner_uid,
                                bool force) {
  v1::UnpublishSegmentRequest request;
  request.set_name(name);
  request.set_force(force);
  if (owner_uid) request.set_owner_uid(*owner_uid);
  return stub_->UnpublishSegment(request);
}

}  // namespace tenure
