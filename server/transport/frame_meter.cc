#include "server/transport/frame_meter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

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
// The least that a frame of a header block counts as, in bytes. Without it a client could send
// empty CONTINUATION frames for ever and never reach the limit.
constexpr uint32_t kLeastHeaderFrame = 64;
// DATA frames of at least this size cost the client as much as they cost gRPC, and are not counted.
constexpr uint32_t kLargeDataFrame = 1024;
// How many control frames one request pays for: the client's window updates, and the pings by which
// it measures the bandwidth.
constexpr uint32_t kControlFramesOfRequest = 8;
// The most that requests can pay for in advance, so that no number of requests allows a flood
// later.
constexpr uint32_t kMostControlCredit = 1 << 16;

}  // namespace

FrameMeter::FrameMeter(std::shared_ptr<TokenBucket> resets)
    : streams_(limits_.streams_per_second, limits_.streams_per_second),
      resets_(std::move(resets)),
      control_(limits_.control_per_second, limits_.control_burst) {}

std::shared_ptr<TokenBucket> FrameMeter::NewResets() {
  const Limits limits;
  return std::make_shared<TokenBucket>(limits.resets_per_second, limits.resets_burst);
}

absl::Status FrameMeter::Read(absl::string_view bytes, BootTime now) {
  TENURE_RETURN_IF_ERROR(ReadPreface(bytes));
  while (!bytes.empty()) {
    if (payload_left_ > 0) {
      // Payload passes unread: the header has said all that is limited here.
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
    // Checked when its header is complete, so that a frame that is too large is refused before its
    // payload arrives.
    const Frame frame = ParseHeader();
    TENURE_RETURN_IF_ERROR(CheckFrame(frame, now));
    payload_left_ = frame.length;
  }
  return absl::OkStatus();
}

FrameMeter::Frame FrameMeter::ParseHeader() const {
  const auto byte = [this](size_t i) { return static_cast<uint8_t>(header_[i]); };
  const auto three_bytes = [&byte](size_t i) {
    return uint32_t{byte(i)} << 16 | uint32_t{byte(i + 1)} << 8 | byte(i + 2);
  };
  // RFC 9113, 4.1: length (3 bytes), type (1), flags (1), stream (4), in network byte order.
  return {three_bytes(0), byte(3), byte(4), uint32_t{byte(5)} << 24 | three_bytes(6)};
}

absl::Status FrameMeter::ReadPreface(absl::string_view& bytes) {
  // Compares only the part that has arrived: the preface may come in several reads.
  const absl::string_view expected =
      kPreface.substr(preface_seen_, std::min(kPreface.size() - preface_seen_, bytes.size()));
  if (!absl::StartsWith(bytes, expected)) {
    return absl::InvalidArgumentError("it does not begin as HTTP/2 does");
  }
  preface_seen_ += expected.size();
  bytes.remove_prefix(expected.size());
  return absl::OkStatus();
}

absl::Status FrameMeter::CheckFrame(const Frame& frame, BootTime now) {
  if (frame.length > limits_.frame_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", frame.length, " bytes; the limit is ", limits_.frame_bytes));
  }
  // RFC 9113, 6.10: between HEADERS and the end of its block there is nothing but CONTINUATION, and
  // CONTINUATION comes nowhere else.
  if ((frame.type == kContinuation) != (header_block_ > 0)) {
    return absl::InvalidArgumentError("its header frames are out of order");
  }
  if (!IsWellFormed(frame)) {
    return absl::InvalidArgumentError(absl::StrCat("a malformed frame of type ", frame.type, ", ",
                                                   frame.length, " bytes long, on stream ",
                                                   frame.stream));
  }
  switch (frame.type) {
    case kHeaders:
      return CountRequest(frame, now);
    case kContinuation:
      return CountHeaderBytes(frame);
    case kResetStream:
      if (resets_->Take(now)) return absl::OkStatus();
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", limits_.resets_burst, " requests reset at once"));
    case kData:
      // A message in many tiny frames costs gRPC much more than it costs the client.
      return frame.length >= kLargeDataFrame ? absl::OkStatus() : CountControlFrame(now);
    case kSettings:
      acknowledged_ = acknowledged_ || (frame.flags & kAcknowledge) != 0;
      return CountControlFrame(now);
    default:
      return CountControlFrame(now);
  }
}

bool FrameMeter::IsWellFormed(const Frame& frame) const {
  // A client opens odd streams, each with a higher number than the last. A second HEADERS frame on
  // a stream would be trailers, which a gRPC client does not send.
  const bool of_opened_stream = frame.stream % 2 == 1 && frame.stream <= last_stream_;
  switch (frame.type) {
    case kData:
      return of_opened_stream;
    case kHeaders:
      return frame.stream % 2 == 1 && frame.stream > last_stream_ && frame.stream >> 31 == 0;
    case kPriority:
      return frame.length == 5;
    case kResetStream:
      // RFC 9113, 6.4, forbids it for a stream that was never opened. But gRPC's own clients send
      // it when a call is cancelled after it has a stream and before its HEADERS are written (grpc
      // issue 38758). gRPC's server ignores such a frame; here it counts as a reset.
      return frame.length == 4 && frame.stream % 2 == 1;
    case kSettings:
      return frame.stream == 0 && frame.length % 6 == 0 &&
             ((frame.flags & kAcknowledge) == 0 || frame.length == 0);
    case kPushPromise:  // only a server sends it
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
      // RFC 9113, 4.1: unknown types are ignored. They count as control frames.
      return true;
  }
}

absl::Status FrameMeter::CountRequest(const Frame& frame, BootTime now) {
  if (!streams_.Take(now)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.streams_per_second, " requests within a second"));
  }
  // Every gRPC client acknowledges the settings with its first read. A client that never does is
  // one of the three possible causes in the class comment.
  if (!acknowledged_ && ++streams_seen_ > limits_.unacknowledged_streams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.unacknowledged_streams,
                     " requests before it acknowledged the daemon's settings"));
  }
  last_stream_ = frame.stream;
  control_credit_ = std::min(control_credit_ + kControlFramesOfRequest, kMostControlCredit);
  return CountHeaderBytes(frame);
}

absl::Status FrameMeter::CountHeaderBytes(const Frame& frame) {
  header_block_ += std::max(frame.length, kLeastHeaderFrame);
  if (header_block_ > limits_.header_block_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.header_block_bytes, " bytes of header in one request"));
  }
  if ((frame.flags & kEndHeaders) != 0) header_block_ = 0;
  return absl::OkStatus();
}

absl::Status FrameMeter::CountControlFrame(BootTime now) {
  // The credit of the requests first: a busy client may send many control frames, an idle one few.
  if (control_credit_ > 0) {
    --control_credit_;
    return absl::OkStatus();
  }
  if (control_.Take(now)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("more than ", limits_.control_burst, " frames that carry no request, at once"));
}

}  // namespace tenure::server
