#include "server/transport/frame_meter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum FrameType : uint8_t {
  kData = 0,
  kHeaders = 1,
  kPriority = 2,
  kResetStream = 3,
  kSettings = 4,
  kPushPromise = 5,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9,
};
constexpr uint8_t kAcknowledge = 0x1;
constexpr uint8_t kEndHeaders = 0x4;
// What an empty CONTINUATION counts as, or an endless header block could be made of nothing.
constexpr uint32_t kLeastContinuation = 64;

}  // namespace

FrameMeter::FrameMeter(std::shared_ptr<TokenBucket> resets)
    : streams_(limits_.streams_per_second, limits_.streams_per_second),
      resets_(std::move(resets)),
      control_(limits_.control_per_second, limits_.control_burst) {}

std::shared_ptr<TokenBucket> FrameMeter::NewResets() {
  const Limits limits;
  return std::make_shared<TokenBucket>(limits.resets_per_second, limits.resets_burst);
}

absl::Status FrameMeter::Take(absl::string_view bytes, BootTime now) {
  if (absl::Status preface = TakePreface(bytes); !preface.ok()) return preface;
  while (!bytes.empty()) {
    if (payload_left_ > 0) {
      const size_t skipped = std::min<size_t>(payload_left_, bytes.size());
      payload_left_ -= static_cast<uint32_t>(skipped);
      bytes.remove_prefix(skipped);
      continue;
    }
    const size_t taken = std::min(kHeaderBytes - header_seen_, bytes.size());
    std::copy_n(bytes.begin(), taken, header_.begin() + static_cast<ptrdiff_t>(header_seen_));
    header_seen_ += taken;
    bytes.remove_prefix(taken);
    if (header_seen_ < kHeaderBytes) return absl::OkStatus();
    header_seen_ = 0;
    const auto byte = [this](size_t i) { return static_cast<uint8_t>(header_[i]); };
    const auto word = [&byte](size_t i) {
      return uint32_t{byte(i)} << 16 | uint32_t{byte(i + 1)} << 8 | byte(i + 2);
    };
    const Frame frame = {word(0), byte(3), byte(4), uint32_t{byte(5)} << 24 | word(6)};
    if (absl::Status begun = Begin(frame, now); !begun.ok()) return begun;
    payload_left_ = frame.length;
  }
  return absl::OkStatus();
}

absl::Status FrameMeter::TakePreface(absl::string_view& bytes) {
  const absl::string_view expected =
      kPreface.substr(preface_seen_, std::min(kPreface.size() - preface_seen_, bytes.size()));
  if (!absl::StartsWith(bytes, expected)) {
    return absl::InvalidArgumentError("it does not begin as HTTP/2 does");
  }
  preface_seen_ += expected.size();
  bytes.remove_prefix(expected.size());
  return absl::OkStatus();
}

absl::Status FrameMeter::Begin(const Frame& frame, BootTime now) {
  if (frame.length > limits_.frame_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of ", frame.length, " bytes; at most ",
                                                   limits_.frame_bytes, " are taken"));
  }
  if ((frame.type == kContinuation) != (header_block_ > 0)) {
    return absl::InvalidArgumentError("its header frames are out of order");
  }
  if (!IsWellFormed(frame)) {
    return absl::InvalidArgumentError(absl::StrCat("a frame of type ", frame.type, ", ",
                                                   frame.length, " bytes long, on stream ",
                                                   frame.stream, ", which cannot be"));
  }
  switch (frame.type) {
    case kHeaders:
      return BeginRequest(frame, now);
    case kContinuation:
      return BeginHeaders(frame);
    case kResetStream:
      if (resets_->Take(now)) return absl::OkStatus();
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", limits_.resets_burst, " requests taken back at once"));
    case kData:
      // A message in pieces of at least 1 KiB is as good as one in one piece.
      return frame.length >= 1024 ? absl::OkStatus() : CountControl(now);
    case kSettings:
      acknowledged_ = acknowledged_ || (frame.flags & kAcknowledge) != 0;
      return CountControl(now);
    default:
      return CountControl(now);
  }
}

bool FrameMeter::IsWellFormed(const Frame& frame) const {
  // A client opens odd streams, each with a higher number than the last; gRPC's sends no trailers.
  const bool of_opened_stream = frame.stream % 2 == 1 && frame.stream <= last_stream_;
  switch (frame.type) {
    case kData:
      return of_opened_stream;
    case kHeaders:
      return frame.stream % 2 == 1 && frame.stream > last_stream_ && frame.stream >> 31 == 0;
    case kPriority:
      return frame.length == 5;
    case kResetStream:
      return frame.length == 4 && of_opened_stream;
    case kSettings:
      return frame.stream == 0 && frame.length % 6 == 0 &&
             ((frame.flags & kAcknowledge) == 0 || frame.length == 0);
    case kPushPromise:
      return false;
    case kPing:
      return frame.stream == 0 && frame.length == 8;
    case kGoAway:
      return frame.stream == 0 && frame.length >= 8;
    case kWindowUpdate:
      return frame.length == 4 && (frame.stream == 0 || of_opened_stream);
    case kContinuation:
      return frame.stream == last_stream_;
    default:
      return true;
  }
}

absl::Status FrameMeter::BeginRequest(const Frame& frame, BootTime now) {
  if (!streams_.Take(now)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.streams_per_second, " requests within a second"));
  }
  if (!acknowledged_ && ++streams_seen_ > limits_.unacknowledged_streams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.unacknowledged_streams,
                     " requests without a word on the daemon's settings"));
  }
  last_stream_ = frame.stream;
  control_credit_ = std::min(control_credit_ + kControlFramesOfRequest, kMostControlCredit);
  return BeginHeaders(frame);
}

absl::Status FrameMeter::BeginHeaders(const Frame& frame) {
  header_block_ += std::max(frame.length, kLeastContinuation);
  if (header_block_ > limits_.header_block_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.header_block_bytes, " bytes of header in one request"));
  }
  if ((frame.flags & kEndHeaders) != 0) header_block_ = 0;
  return absl::OkStatus();
}

absl::Status FrameMeter::CountControl(BootTime now) {
  if (control_credit_ > 0) {
    --control_credit_;
    return absl::OkStatus();
  }
  if (control_.Take(now)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("more than ", limits_.control_burst, " frames that ask for nothing at once"));
}

}  // namespace tenure::server
