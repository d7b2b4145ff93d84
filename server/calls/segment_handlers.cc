#include "server/calls/segment_handlers.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

constexpr size_t kMaxName = 128;
constexpr int kMaxBlocks = 64;
constexpr int kMaxTensors = 8192;
constexpr size_t kMaxTensorName = 256;
constexpr size_t kMaxDtype = 16;
constexpr int kMaxDimensions = 8;
constexpr int kMaxAllowed = 64;
constexpr size_t kDigestBytes = 32;

absl::Status CheckName(const std::string& name) {
  const bool spelled = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-' ||
           c == '/';
  });
  if (spelled && !name.empty() && name.size() <= kMaxName) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a segment's name has 1 to ", kMaxName, " letters, digits and '._-/'"));
}

absl::Status CheckCount(const char* what, int count, int least, int most) {
  if (count >= least && count <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a segment has ", least, " to ", most, " ", what, "; this one has ", count));
}

absl::Status CheckTensor(const v1::SegmentTensor& tensor) {
  if (tensor.name().empty() || tensor.name().size() > kMaxTensorName) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor's name has 1 to ", kMaxTensorName, " bytes"));
  }
  if (tensor.dtype().empty() || tensor.dtype().size() > kMaxDtype ||
      tensor.shape_size() > kMaxDimensions) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor has a dtype of 1 to ", kMaxDtype,
                                                   " bytes and at most ", kMaxDimensions,
                                                   " dimensions"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SegmentNotes> ParseNotes(const v1::PublishSegmentRequest& request) {
  for (const absl::Status& count :
       {CheckCount("blocks", request.allocation_ids_size(), 1, kMaxBlocks),
        CheckCount("tensors", request.tensors_size(), 0, kMaxTensors),
        CheckCount("other users who may attach it", request.allowed_uids_size(), 0, kMaxAllowed)}) {
    if (!count.ok()) return count;
  }
  if (request.digest().size() != kDigestBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("digest has ", request.digest().size(), " bytes; it is of ", kDigestBytes));
  }
  SegmentNotes notes;
  notes.allowed.assign(request.allowed_uids().begin(), request.allowed_uids().end());
  notes.digest = request.digest();
  for (const v1::SegmentTensor& tensor : request.tensors()) {
    if (absl::Status checked = CheckTensor(tensor); !checked.ok()) return checked;
    notes.tensors.push_back(SegmentTensor{tensor.name(),
                                          tensor.dtype(),
                                          {tensor.shape().begin(), tensor.shape().end()},
                                          tensor.block(),
                                          Bytes(tensor.offset_bytes()),
                                          Bytes(tensor.size_bytes())});
  }
  return notes;
}

void Fill(v1::AttachSegmentResponse& response, const SegmentGrant& grant) {
  response.set_state(v1::AttachSegmentResponse::STATE_ATTACHED);
  response.set_attachment_id(grant.attachment);
  response.set_digest(grant.notes.digest);
  response.set_survives_daemon(grant.survives_daemon);
  for (const SegmentGrant::Block& block : grant.blocks) {
    v1::AttachSegmentResponse::Block& out = *response.add_blocks();
    out.set_region_id(block.region);
    out.set_region_size_bytes(block.region_size.value());
    out.set_size_bytes(block.size.value());
    if (block.kind == MemoryKind::kVmmFd) {
      out.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
      continue;
    }
    out.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
    const absl::string_view handle = block.handle.AsBytes();
    out.set_ipc_handle(handle.data(), handle.size());
  }
  for (const SegmentTensor& tensor : grant.notes.tensors) {
    v1::SegmentTensor& out = *response.add_tensors();
    out.set_name(tensor.name);
    out.set_dtype(tensor.dtype);
    out.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    out.set_block(tensor.block);
    out.set_offset_bytes(tensor.offset.value());
    out.set_size_bytes(tensor.size.value());
  }
}

}  // namespace

absl::Status SegmentHandlers::Publish(const Peer& caller, const v1::PublishSegmentRequest& request,
                                      v1::PublishSegmentResponse& response) {
  if (request.request_id() == 0) return absl::InvalidArgumentError("request_id is 0; make one");
  if (absl::Status name = CheckName(request.name()); !name.ok()) return name;
  absl::StatusOr<SegmentNotes> notes = ParseNotes(request);
  if (!notes.ok()) return notes.status();
  const std::vector<AllocationId> allocations(request.allocation_ids().begin(),
                                              request.allocation_ids().end());
  const absl::StatusOr<AttachmentId> attachment =
      registry_.Publish(caller, request.session_id(), request.request_id(), request.name(),
                        allocations, *std::move(notes));
  if (!attachment.ok()) return attachment.status();
  response.set_attachment_id(*attachment);
  return absl::OkStatus();
}

absl::Status SegmentHandlers::Attach(const Peer& caller, const v1::AttachSegmentRequest& request,
                                     v1::AttachSegmentResponse& response) {
  if (request.request_id() == 0) return absl::InvalidArgumentError("request_id is 0; make one");
  if (absl::Status name = CheckName(request.name()); !name.ok()) return name;
  const SegmentKey key{request.has_owner_uid() ? request.owner_uid() : caller.uid(),
                       request.name()};
  const auto attached = registry_.AttachSegment(caller, request.session_id(), request.request_id(),
                                                key, request.claim());
  if (!attached.ok()) return attached.status();
  if (const SegmentGrant* const grant = std::get_if<SegmentGrant>(&*attached)) {
    Fill(response, *grant);
  } else {
    response.set_state(std::get<SegmentClaim>(*attached) == SegmentClaim::kOurs
                           ? v1::AttachSegmentResponse::STATE_YOURS_TO_LOAD
                           : v1::AttachSegmentResponse::STATE_LOADING);
  }
  return absl::OkStatus();
}

absl::Status SegmentHandlers::Detach(const Peer& caller, const v1::DetachSegmentRequest& request,
                                     v1::DetachSegmentResponse&) {
  return registry_.DetachSegment(caller, request.session_id(), request.attachment_id());
}

absl::Status SegmentHandlers::Unpublish(const Peer& caller,
                                        const v1::UnpublishSegmentRequest& request,
                                        v1::UnpublishSegmentResponse&) {
  if (absl::Status name = CheckName(request.name()); !name.ok()) return name;
  const SegmentKey key{request.has_owner_uid() ? request.owner_uid() : caller.uid(),
                       request.name()};
  if (key.owner != caller.uid() && !caller.IsOperator()) {
    return absl::PermissionDeniedError(
        absl::StrCat("segment '", key.name, "' is uid:", key.owner,
                     "'s, and only that user and root may unpublish it"));
  }
  // A claim alone: when this is repeated, others may have published under the name meanwhile.
  if (request.session_id() != 0) return registry_.EndClaim(caller, request.session_id(), key);
  return registry_.Unpublish(key, request.force());
}

}  // namespace tenure::server
