#include "client/segment.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/attachment.h"
#include "client/session/session.h"
#include "client/weights/digest.h"
#include "common/status_macros.h"

namespace tenure {

Segment::Segment() = default;

Segment::Segment(std::shared_ptr<Session> session, std::string name, Attachment attachment)
    : session_(std::move(session)),
      attachment_(std::make_unique<Attachment>(std::move(attachment))),
      name_(std::move(name)) {}

// Not defaulted: a moved-from std::string may keep its contents, and an empty segment has no name.
Segment::Segment(Segment&& other) noexcept
    : session_(std::move(other.session_)),
      attachment_(std::move(other.attachment_)),
      name_(std::exchange(other.name_, "")) {}

Segment& Segment::operator=(Segment&& other) noexcept {
  if (this != &other) {
    Discard();
    session_ = std::move(other.session_);
    attachment_ = std::move(other.attachment_);
    name_ = std::exchange(other.name_, "");
  }
  return *this;
}

Segment::~Segment() { Discard(); }

void Segment::Discard() {
  if (session_ == nullptr) return;
  session_->QueueDetach(*attachment_);
  attachment_.reset();
  // The session is released last: this may be its last handle, and its end unmaps all regions.
  session_.reset();
}

absl::Span<const SegmentBlock> Segment::blocks() const {
  return attachment_ ? absl::MakeConstSpan(attachment_->blocks) : absl::Span<const SegmentBlock>();
}

absl::Span<const SegmentTensor> Segment::tensors() const {
  return attachment_ ? absl::MakeConstSpan(attachment_->tensors)
                     : absl::Span<const SegmentTensor>();
}

const SegmentTensor* Segment::Find(absl::string_view tensor) const {
  const absl::Span<const SegmentTensor> all = tensors();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const SegmentTensor& one) { return one.name == tensor; });
  return found == all.end() ? nullptr : &*found;
}

Bytes Segment::size() const {
  Bytes sum;
  for (const SegmentBlock& block : blocks()) sum += block.size;
  return sum;
}

const std::string& Segment::digest() const {
  // Never destroyed: a Segment of static lifetime may be asked after static destructors have run.
  static const std::string* const kNone = new std::string;
  return attachment_ ? attachment_->digest : *kNone;
}

bool Segment::survives_daemon() const {
  return attachment_ != nullptr && attachment_->survives_daemon;
}

absl::Status Segment::Verify() const {
  if (session_ == nullptr) return absl::FailedPreconditionError("verify: the segment is empty");
  // Usable() is not asked in general: when the session is lost, the blocks are still mapped and may
  // be read.
  if (session_->InForkedChild()) return session_->Usable();
  if (!session_->maps()) {
    return absl::FailedPreconditionError(
        "verify: this process connected with map = false and has no device memory");
  }
  std::vector<Bytes> sizes;
  for (const SegmentBlock& block : attachment_->blocks) sizes.push_back(block.size);
  TENURE_ASSIGN_OR_RETURN(
      const std::string digest, DigestOf(sizes, [this](const DigestPiece& piece, char* to) {
        const cuda::DevicePointer from = attachment_->blocks[piece.block].pointer;
        return session_->device()->CopyToHost(to, from + piece.offset.value(), piece.size);
      }));
  if (digest == attachment_->digest) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "segment '", name_, "' has the digest ", DigestInHex(digest), " and was published with ",
      DigestInHex(attachment_->digest), ": a process has written there; publish it again"));
}

absl::Status Segment::Detach() {
  if (session_ == nullptr) return absl::OkStatus();
  // Emptied before the call: whatever the answer is, the destructor must not detach again.
  const std::shared_ptr<Session> session = std::exchange(session_, nullptr);
  const std::unique_ptr<Attachment> attachment = std::move(attachment_);
  return session->Detach(*attachment);
}

}  // namespace tenure
