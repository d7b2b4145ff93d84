#include "server/calls/segment_handlers.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/status_macros.h"
#include "server/calls/block_request.h"
#include "server/calls/wire.h"

namespace tenure::server {
namespace {

// A name may stand in a path, a flag or a log line without quotes.
absl::Status CheckSegmentName(const std::string& name) {
  const bool spelled = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-' ||
           c == '/';
  });
  if (spelled && !name.empty() && name.size() <= kMaxSegmentName) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a segment's name has 1 to ", kMaxSegmentName, " letters, digits and '._-/'"));
}

absl::Status CheckCount(const char* what, int count, size_t least, size_t most) {
  const auto given = static_cast<size_t>(count);
  if (given >= least && given <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a segment has ", least, " to ", most, " ", what, "; this one has ", count));
}

absl::Status CheckTensor(const v1::SegmentTensor& tensor) {
  if (tensor.name().empty() || tensor.name().size() > kMaxTensorName) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor's name has 1 to ", kMaxTensorName, " bytes"));
  }
  if (tensor.dtype().empty() || tensor.dtype().size() > kMaxTensorDtype ||
      static_cast<size_t>(tensor.shape_size()) > kMaxTensorDimensions) {
    return absl::InvalidArgumentError(absl::StrCat("a tensor has a dtype of 1 to ", kMaxTensorDtype,
                                                   " bytes and at most ", kMaxTensorDimensions,
                                                   " dimensions"));
  }
  return absl::OkStatus();
}

// Everything but the name. The registry checks the tensors against the blocks, whose sizes only it
// knows.
absl::StatusOr<SegmentNotes> ParseNotes(const v1::PublishSegmentRequest& request) {
  TENURE_RETURN_IF_ERROR(CheckCount("blocks", request.allocation_ids_size(), 1, kMaxSegmentBlocks));
  TENURE_RETURN_IF_ERROR(CheckCount("tensors", request.tensors_size(), 0, kMaxSegmentTensors));
  TENURE_RETURN_IF_ERROR(CheckCount("other users that may attach it", request.allowed_uids_size(),
                                    0, kMaxAllowedUids));
  if (request.digest().size() != kDigestBytes) {
    return absl::InvalidArgumentError(absl::StrCat("digest has ", request.digest().size(),
                                                   " bytes; it must have ", kDigestBytes));
  }
  SegmentNotes notes;
  notes.allowed.assign(request.allowed_uids().begin(), request.allowed_uids().end());
  notes.digest = request.digest();
  for (const v1::SegmentTensor& tensor : request.tensors()) {
    TENURE_RETURN_IF_ERROR(CheckTensor(tensor));
    notes.tensors.push_back(FromWire(tensor));
  }
  return notes;
}

// A request without an owner names the caller's own segment.
template <typename Request>
SegmentKey KeyOf(const Peer& caller, const Request& request) {
  return SegmentKey{request.has_owner_uid() ? request.owner_uid() : caller.uid(), request.name()};
}

}  // namespace

absl::Status SegmentHandlers::Publish(const Peer& caller, const v1::PublishSegmentRequest& request,
                                      v1::PublishSegmentResponse& response) {
  TENURE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  TENURE_RETURN_IF_ERROR(CheckSegmentName(request.name()));
  TENURE_ASSIGN_OR_RETURN(SegmentNotes notes, ParseNotes(request));
  const std::vector<AllocationId> allocations(request.allocation_ids().begin(),
                                              request.allocation_ids().end());
  TENURE_ASSIGN_OR_RETURN(const AttachmentId attachment,
                          registry_.Publish(caller, request.session_id(), request.request_id(),
                                            request.name(), allocations, std::move(notes)));
  response.set_attachment_id(attachment);
  return absl::OkStatus();
}

absl::Status SegmentHandlers::Attach(const Peer& caller, const v1::AttachSegmentRequest& request,
                                     v1::AttachSegmentResponse& response) {
  TENURE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  TENURE_RETURN_IF_ERROR(CheckSegmentName(request.name()));
  const SegmentKey key = KeyOf(caller, request);
  TENURE_ASSIGN_OR_RETURN(const auto attached,
                          registry_.AttachSegment(caller, request.session_id(),
                                                  request.request_id(), key, request.claim()));
  if (const SegmentGrant* const grant = std::get_if<SegmentGrant>(&attached)) {
    response = ToWire(*grant);
  } else {
    // Not published yet: either this session is to load it now, or another session does.
    response.set_state(std::get<SegmentClaim>(attached) == SegmentClaim::kGranted
                           ? v1::AttachSegmentResponse::STATE_YOURS_TO_LOAD
                           : v1::AttachSegmentResponse::STATE_LOADING);
  }
  return absl::OkStatus();
}

absl::Status SegmentHandlers::Detach(const Peer& caller, const v1::DetachSegmentRequest& request,
                                     v1::DetachSegmentResponse&, bool& prepaid) {
  TENURE_RETURN_IF_ERROR(
      registry_.DetachSegment(caller, request.session_id(), request.attachment_id()));
  prepaid = true;
  return absl::OkStatus();
}

absl::Status SegmentHandlers::Unpublish(const Peer& caller,
                                        const v1::UnpublishSegmentRequest& request,
                                        v1::UnpublishSegmentResponse&, bool& prepaid) {
  TENURE_RETURN_IF_ERROR(CheckSegmentName(request.name()));
  const SegmentKey key = KeyOf(caller, request);
  if (key.owner != caller.uid() && !caller.IsOperator()) {
    return absl::PermissionDeniedError(absl::StrCat("segment '", key.name,
                                                    "' belongs to uid:", key.owner,
                                                    "; only that user and root may unpublish it"));
  }
  // A request with a session ends that session's claim and nothing else. It may be a repeated one,
  // and another session may have published under the name meanwhile: that segment must stay.
  TENURE_RETURN_IF_ERROR(request.session_id() != 0
                             ? registry_.EndClaim(caller, request.session_id(), key)
                             : registry_.Unpublish(key, request.force()));
  prepaid = true;
  return absl::OkStatus();
}

}  // namespace tenure::server
