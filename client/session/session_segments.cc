// What a Session does with segments.
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/region_mapping.h"
#include "client/session/session.h"
#include "client/weights/digest.h"

namespace tenure {
namespace {

SegmentTensor FromWire(const v1::SegmentTensor& tensor) {
  return {tensor.name(),
          tensor.dtype(),
          {tensor.shape().begin(), tensor.shape().end()},
          tensor.block(),
          Bytes(tensor.offset_bytes()),
          Bytes(tensor.size_bytes())};
}

// The daemon's word is checked once, here.
absl::StatusOr<Attachment> Read(const v1::AttachSegmentResponse& response) {
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
    attachment.blocks.push_back({0, Bytes(block.size_bytes()),
                                 block.memory_kind() == v1::MEMORY_KIND_VMM_FD
                                     ? MemoryKind::kVmmFd
                                     : MemoryKind::kCudaIpc});
  }
  for (const v1::SegmentTensor& tensor : response.tensors()) {
    if (tensor.block() >= attachment.blocks.size()) {
      return absl::InternalError("the daemon described a tensor in no block");
    }
    const Bytes block = attachment.blocks[tensor.block()].size;
    const Bytes offset(tensor.offset_bytes());
    const Bytes size(tensor.size_bytes());
    if (offset > block || size > block - offset) {
      return absl::InternalError("the daemon described a tensor that reaches beyond its block");
    }
    attachment.tensors.push_back(FromWire(tensor));
  }
  return attachment;
}

// Once the blocks are mapped.
void PointTensors(Attachment& attachment) {
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
  source.ask.mutable_segment_block()->set_attachment_id(attachment.id);
  source.ask.mutable_segment_block()->set_block(index);
  const absl::StatusOr<cuda::DevicePointer> base = segment_regions_->Use(
      block.region_id(), [&] { return MapRegion(*device_, *stub_, source); },
      Deadline::After(stub_->call_timeout()));
  if (!base.ok()) return base.status();
  attachment.regions.push_back(block.region_id());
  attachment.blocks[index].pointer = *base;
  return absl::OkStatus();
}

absl::StatusOr<Attachment> Session::Accept(v1::AttachSegmentResponse response) {
  absl::StatusOr<Attachment> attachment = Read(response);
  if (!attachment.ok()) {
    upkeep_->QueueDetach(response.attachment_id());
    return attachment;
  }
  for (int i = 0; maps() && i < response.blocks_size(); ++i) {
    const absl::Status mapped = MapBlock(response.blocks(i), static_cast<uint32_t>(i), *attachment);
    if (mapped.ok()) continue;
    DiscardAttachment(*attachment);
    return mapped;
  }
  PointTensors(*attachment);
  return attachment;
}

absl::StatusOr<std::variant<Attachment, Claim>> Session::Attach(const std::string& name,
                                                                std::optional<uint32_t> owner_uid,
                                                                bool claim) {
  // What is attached may survive, whoever published it; and so may a claim.
  stub_->ExpectSurvival();
  v1::AttachSegmentRequest request;
  request.set_name(name);
  request.set_claim(claim);
  if (owner_uid) request.set_owner_uid(*owner_uid);
  absl::StatusOr<v1::AttachSegmentResponse> response = stub_->AttachSegment(request);
  if (!response.ok()) return Heed(response.status());
  switch (response->state()) {
    case v1::AttachSegmentResponse::STATE_ATTACHED: {
      absl::StatusOr<Attachment> attachment = Accept(*std::move(response));
      if (!attachment.ok()) return attachment.status();
      return *std::move(attachment);
    }
    case v1::AttachSegmentResponse::STATE_YOURS_TO_LOAD: {
      absl::MutexLock lock(&loading_mutex_);
      return loading_.insert(name).second ? Claim::kOurs : Claim::kOthers;
    }
    case v1::AttachSegmentResponse::STATE_LOADING:
      return Claim::kOthers;
    default:
      return absl::InternalError("the daemon says nothing about the segment's state");
  }
}

void Session::EndLoading(const std::string& name, bool published) {
  if (!published) {
    v1::UnpublishSegmentRequest request;
    request.set_session_id(stub_->session_id());
    request.set_name(name);
    // What is not given back now is with the session's end.
    stub_->UnpublishSegment(request).IgnoreError();
  }
  absl::MutexLock lock(&loading_mutex_);
  loading_.erase(name);
}

absl::Status Session::Remap(const Grant& grant, uint32_t index, Attachment& attachment) {
  RegionSource source;
  source.kind = v1::MEMORY_KIND_VMM_FD;
  source.size = grant.region_size;
  source.access = cuda::VmmAccess::kRead;
  source.ask.mutable_segment_block()->set_attachment_id(attachment.id);
  source.ask.mutable_segment_block()->set_block(index);
  // The driver has one way to map CUDA_IPC, which stays as it is and changes its owner.
  bool taken = false;
  const auto map = [&]() -> absl::StatusOr<Mapping> {
    if (grant.kind == MemoryKind::kVmmFd) return MapRegion(*device_, *stub_, source);
    taken = true;
    return regions_->Take(grant.region_id);
  };
  const absl::StatusOr<cuda::DevicePointer> base =
      segment_regions_->Use(grant.region_id, map, Deadline::After(stub_->call_timeout()));
  if (!taken) regions_->Drop(grant.region_id, RegionCache::WhenEmpty::kUnmap);
  if (!base.ok()) return base.status();
  attachment.regions.push_back(grant.region_id);
  attachment.blocks[index].pointer = *base;
  return absl::OkStatus();
}

absl::StatusOr<Attachment> Session::AttachPublished(const v1::PublishSegmentRequest& request) {
  absl::StatusOr<std::variant<Attachment, Claim>> there =
      Attach(request.name(), std::nullopt, /*claim=*/false);
  if (!there.ok()) return there.status();
  Attachment* const attachment = std::get_if<Attachment>(&*there);
  if (attachment != nullptr && attachment->digest == request.digest()) {
    return std::move(*attachment);
  }
  if (attachment != nullptr) DiscardAttachment(*attachment);
  return absl::AlreadyExistsError(
      absl::StrCat("segment '", request.name(),
                   "' was published by another process with other contents; unpublish it first"));
}

absl::StatusOr<Attachment> Session::Publish(v1::PublishSegmentRequest request,
                                            const std::vector<SealedBlock>& blocks) {
  const MemoryKind kind = blocks.front().grant.kind;
  if (kind == MemoryKind::kVmmFd) stub_->ExpectSurvival();
  for (const SealedBlock& block : blocks) request.add_allocation_ids(block.grant.allocation_id);
  bool repeated = false;
  const absl::StatusOr<v1::PublishSegmentResponse> response =
      stub_->PublishSegment(request, &repeated);
  if (absl::IsAlreadyExists(response.status()) && repeated) {
    absl::StatusOr<Attachment> attachment = AttachPublished(request);
    if (!attachment.ok()) return attachment;
    for (const SealedBlock& block : blocks) Discard(block.grant);
    return attachment;
  }
  if (!response.ok()) return Heed(response.status());
  Attachment attachment;
  attachment.id = response->attachment_id();
  attachment.digest = request.digest();
  attachment.survives_daemon = kind == MemoryKind::kVmmFd && stub_->session().survives_daemon();
  absl::Status failure;
  for (uint32_t i = 0; i < blocks.size(); ++i) {
    const Grant& grant = blocks[i].grant;
    attachment.blocks.push_back({0, blocks[i].size, kind});
    if (kind == MemoryKind::kCudaIpc && grant.restarts == restarts_) --ipc_blocks_;
    if (maps()) failure.Update(Remap(grant, i, attachment));
  }
  if (!failure.ok()) {
    DiscardAttachment(attachment);
    return absl::Status(failure.code(),
                        absl::StrCat("segment '", request.name(),
                                     "' is published, but this process could not map it for "
                                     "reading: ",
                                     failure.message()));
  }
  for (const v1::SegmentTensor& tensor : request.tensors()) {
    attachment.tensors.push_back(FromWire(tensor));
  }
  PointTensors(attachment);
  return attachment;
}

void Session::UnmapSegment(const Attachment& attachment) {
  for (const uint64_t region : attachment.regions) {
    segment_regions_->Drop(region, RegionCache::WhenEmpty::kUnmap);
  }
}

absl::Status Session::Detach(const Attachment& attachment) {
  if (stub_->InForkedChild()) return stub_->Usable();
  UnmapSegment(attachment);
  const absl::Status status = stub_->DetachSegment(attachment.id);
  if (IsTransient(status)) upkeep_->QueueDetach(attachment.id);
  // Its owner has taken the segment back.
  if (absl::IsNotFound(Heed(status))) return absl::OkStatus();
  return status;
}

void Session::DiscardAttachment(const Attachment& attachment) {
  if (stub_->InForkedChild()) return;
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
