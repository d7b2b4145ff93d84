// What a Client does with segments.
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/client.h"
#include "client/session/attachment.h"
#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/session.h"

namespace tenure {

absl::StatusOr<std::vector<SealedBlock>> Client::Seal(
    const std::vector<DeviceBuffer>& blocks) const {
  if (blocks.empty()) return absl::InvalidArgumentError("publish: a segment has 1 to 64 blocks");
  std::vector<SealedBlock> sealed;
  for (const DeviceBuffer& block : blocks) {
    if (block.session_ != session_) {
      return absl::InvalidArgumentError(
          "publish: a block is empty, or was allocated by another client");
    }
    sealed.push_back({*block.grant_, block.requested_});
  }
  return sealed;
}

absl::StatusOr<Segment> Client::Publish(const std::string& name, SegmentContents contents,
                                        const PublishOptions& options) {
  const absl::StatusOr<std::vector<SealedBlock>> blocks = Seal(contents.blocks);
  if (!blocks.ok()) return blocks.status();
  v1::PublishSegmentRequest request;
  request.set_name(name);
  request.set_digest(contents.digest);
  request.mutable_allowed_uids()->Add(options.allowed_uids.begin(), options.allowed_uids.end());
  for (const SegmentTensor& tensor : contents.tensors) {
    v1::SegmentTensor& out = *request.add_tensors();
    out.set_name(tensor.name);
    out.set_dtype(tensor.dtype);
    out.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    out.set_block(tensor.block);
    out.set_offset_bytes(tensor.offset.value());
    out.set_size_bytes(tensor.size.value());
  }
  absl::StatusOr<Attachment> attachment = session_->Publish(std::move(request), *blocks);
  if (!attachment.ok()) return attachment.status();
  for (DeviceBuffer& block : contents.blocks) {
    block.session_.reset();
    block.grant_.reset();
  }
  return Segment(session_, name, *std::move(attachment));
}

absl::StatusOr<Segment> Client::Attach(const std::string& name, std::optional<uint32_t> owner_uid) {
  absl::StatusOr<std::variant<Attachment, Claim>> answer =
      session_->Attach(name, owner_uid, /*claim=*/false);
  if (!answer.ok()) return answer.status();
  Attachment* const attachment = std::get_if<Attachment>(&*answer);
  if (attachment != nullptr) return Segment(session_, name, std::move(*attachment));
  return absl::InternalError("the daemon answered a request that was not made");
}

absl::StatusOr<Segment> Client::LoadAndPublish(const std::string& name, const Loader& loader,
                                               const LoadOptions& options) {
  absl::StatusOr<SegmentContents> contents = loader(*this);
  absl::StatusOr<Segment> segment =
      contents.ok() ? Publish(name, *std::move(contents), {.allowed_uids = options.allowed_uids})
                    : contents.status();
  session_->EndLoading(name, segment.ok());
  return segment;
}

absl::StatusOr<Segment> Client::AttachOrLoad(const std::string& name, const Loader& loader,
                                             const LoadOptions& options) {
  const Deadline deadline = Deadline::After(options.wait);
  Backoff backoff;
  while (true) {
    absl::StatusOr<std::variant<Attachment, Claim>> answer =
        session_->Attach(name, std::nullopt, /*claim=*/true);
    if (answer.ok()) {
      Attachment* const attachment = std::get_if<Attachment>(&*answer);
      if (attachment != nullptr) return Segment(session_, name, std::move(*attachment));
      if (std::get<Claim>(*answer) == Claim::kOurs) return LoadAndPublish(name, loader, options);
    } else if (!IsTransient(answer.status())) {
      return answer.status();
    }
    const absl::Duration pause = backoff.Next();
    if (pause >= deadline.Left()) {
      if (!answer.ok()) return answer.status();
      return absl::DeadlineExceededError(
          absl::StrCat("another session is loading segment '", name, "', and was not done within ",
                       absl::FormatDuration(options.wait), "; `tenurectl segments` names it"));
    }
    absl::SleepFor(pause);
  }
}

absl::Status Client::Unpublish(const std::string& name, bool force,
                               std::optional<uint32_t> owner_uid) {
  return session_->Unpublish(name, owner_uid, force);
}

}  // namespace tenure
