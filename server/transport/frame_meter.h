// Limits on the HTTP/2 frames that one connection sends, checked before gRPC reads them.
#ifndef SERVER_TRANSPORT_FRAME_METER_H_
#define SERVER_TRANSPORT_FRAME_METER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/clock.h"
#include "common/limits.h"
#include "server/transport/token_bucket.h"

namespace tenure::server {

// Parses the frame headers of one HTTP/2 connection as they pass. It refuses frames that break the
// protocol, as far as a frame's header shows that, and more frames than a gRPC client sends.
//
// gRPC 1.51, which this was written for, needs it:
//   * It starts a handler for each stream, also for one that is reset at once (CVE-2023-44487).
//   * It spends 38 seconds of processor time on 40 MB of header (CVE-2023-33953).
//   * One client made it use 13 GB and one core for ten minutes. That client acknowledged no
//     settings, read no answers and sent torn frames. It is not known which of the three was the
//     cause, so all three are refused; Connection refuses unread answers.
//
// Hides: that a read may end anywhere in a frame.
// Thread safety: thread-compatible. The reads of one connection come one after the other.
// Errors: INVALID_ARGUMENT: this is no HTTP/2, or no gRPC client sends it. RESOURCE_EXHAUSTED: too
// many bytes or frames. After an error the connection must be cut; the meter is of no use then.
// Source: RFC 9113, sections 3.4, 4.1 and 6.
class FrameMeter {
 public:
  struct Limits {
    // A call of tenure's client has 300 bytes of header; one of grpcurl has twice that.
    uint32_t header_block_bytes = 16 << 10;
    // A client may send the largest message in one frame, with a few bytes before it.
    uint32_t frame_bytes = kMaxMessageBytes + (1 << 20);
    double streams_per_second = 100'000;
    // Until the client has acknowledged the daemon's settings, which it does with its first read.
    uint32_t unacknowledged_streams = 256;
    // A client resets a stream when a deadline passes or a call is cancelled. This counts over all
    // connections of a process.
    double resets_per_second = 64;
    double resets_burst = 256;
    // Frames that carry no request, beyond those that normally come with the requests.
    double control_per_second = 1'000;
    double control_burst = 2'000;
  };

  FrameMeter() : FrameMeter(NewResets()) {}
  // `resets` counts the streams that this connection and the others of its process reset.
  explicit FrameMeter(std::shared_ptr<TokenBucket> resets);

  // The count for a process that has not reset a stream yet.
  static std::shared_ptr<TokenBucket> NewResets();

  // Checks the next bytes of the connection.
  absl::Status Read(absl::string_view bytes, BootTime now);

 private:
  static constexpr size_t kHeaderBytes = 9;

  struct Frame {
    uint32_t length = 0;
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
  };

  absl::Status ReadPreface(absl::string_view& bytes);
  Frame ParseHeader() const;
  absl::Status CheckFrame(const Frame& frame, BootTime now);
  // Whether a frame of this type may have this length, these flags and this stream.
  bool IsWellFormed(const Frame& frame) const;
  absl::Status CountRequest(const Frame& frame, BootTime now);
  absl::Status CountHeaderBytes(const Frame& frame);
  absl::Status CountControlFrame(BootTime now);

  const Limits limits_ = {};

  // How far the last read got: bytes of the preface, bytes of the next frame's header, and bytes of
  // the current frame's payload that are still to come.
  size_t preface_seen_ = 0;
  std::array<char, kHeaderBytes> header_ = {};
  size_t header_seen_ = 0;
  uint32_t payload_left_ = 0;

  // Counts of the frames so far.
  uint32_t header_block_ = 0;  // bytes of a header block that has not ended; 0: none is open
  uint32_t last_stream_ = 0;
  uint32_t streams_seen_ = 0;  // until the settings are acknowledged
  bool acknowledged_ = false;
  uint32_t control_credit_ = 0;  // control frames that the requests so far have paid for
  TokenBucket streams_;
  const std::shared_ptr<TokenBucket> resets_;
  TokenBucket control_;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_FRAME_METER_H_
