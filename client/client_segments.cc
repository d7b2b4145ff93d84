// The half of Client that deals with segments.
#include <optional>
#include <utility>
#include <variant>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/client.h"
#include "client/session/attachment.h"
#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/leased_block.h"
#include "client/session/session.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace tenure {

absl::StatusOr<std::vector<LeasedBlock>> Client::BlocksOf(
    const std::vector<DeviceBuffer>& buffers) const {
  // The session needs at least one block. The daemon checks that there are not too many.
  if (buffers.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("publish: a segment has 1 to ", kMaxSegmentBlocks, " blocks"));
  }
  std::vector<LeasedBlock> blocks;
  for (const DeviceBuffer& buffer : buffers) {
    if (buffer.session_ != session_) {
      return absl::InvalidArgumentError(
          "publish: a block is empty, or was allocated by another client");
    }
    blocks.push_back(*buffer.block_);
  }
  return blocks;
}

absl::StatusOr<Segment> Client::Publish(const std::string& name, SegmentContents contents,
                                        const PublishOptions& options) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<LeasedBlock> blocks, BlocksOf(contents.blocks));
  // The session has the blocks now. A buffer's destructor must not free its block as well.
  for (DeviceBuffer& buffer : contents.blocks) {
    buffer.session_.reset();
    buffer.block_.reset();
  }
  const Publication publication = {name, std::move(contents.digest), options.allowed_uids,
                                   std::move(contents.tensors)};
  TENURE_ASSIGN_OR_RETURN(Attachment attachment, session_->Publish(publication, blocks));
  return Segment(session_, name, std::move(attachment));
}

absl::StatusOr<Segment> Client::Attach(const std::string& name, std::optional<uint32_t> owner_uid) {
  TENURE_ASSIGN_OR_RETURN(AttachAnswer answer, session_->Attach(name, owner_uid, /*claim=*/false));
  Attachment* const attachment = std::get_if<Attachment>(&answer);
  if (attachment != nullptr) return Segment(session_, name, std::move(*attachment));
  return absl::InternalError("the daemon granted a claim that was not requested");
}

absl::StatusOr<Segment> Client::LoadAndPublish(const std::string& name, const Loader& loader,
                                               const LoadOptions& options) {
  // A loader that throws must not keep the name from all who wait for it.
  auto claim = absl::MakeCleanup([&] { session_->EndLoading(name, /*published=*/false); });
  absl::StatusOr<SegmentContents> contents = loader(*this);
  std::move(claim).Cancel();
  absl::StatusOr<Segment> segment =
      contents.ok() ? Publish(name, *std::move(contents), {.allowed_uids = options.allowed_uids})
                    : contents.status();
  // The claim ends after the publication. If it ended before, the daemon could grant it to another
  // thread of this session, which would load the segment a second time.
  session_->EndLoading(name, segment.ok());
  return segment;
}

absl::StatusOr<Segment> Client::AttachOrLoad(const std::string& name, const Loader& loader,
                                             const LoadOptions& options) {
  const Deadline deadline = Deadline::After(options.wait);
  Backoff backoff;
  while (true) {
    absl::StatusOr<AttachAnswer> answer = session_->Attach(name, std::nullopt, /*claim=*/true);
    if (answer.ok()) {
      Attachment* const attachment = std::get_if<Attachment>(&*answer);
      if (attachment != nullptr) return Segment(session_, name, std::move(*attachment));
      if (std::get<LoadClaim>(*answer) == LoadClaim::kGranted) {
        return LoadAndPublish(name, loader, options);
      }
    } else if (!IsTransient(answer.status())) {
      return answer.status();
    }
    // Another session or thread loads, or no daemon runs. Either may take longer than one call, so
    // the time limit is options.wait and not the call timeout.
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
