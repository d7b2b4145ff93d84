// What a client sends, counted before gRPC sees it.
#ifndef SERVER_TRANSPORT_FRAME_METER_H_
#define SERVER_TRANSPORT_FRAME_METER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/clock.h"
#include "server/transport/token_bucket.h"

namespace tenure::server {

// Reads HTTP/2's frame headers as they pass and says when a connection asks for more than any
// client of ours does, or breaks the rules that can be seen in a frame's header. This gRPC starts a
// handler for every stream that is opened and reset at once (CVE-2023-44487), and spends 38 seconds
// of processor time on 40 MB of header (CVE-2023-33953). One client that acknowledged no settings,
// read no answers and sent torn frames made it take 13 GB and a core for ten minutes; which of the
// three it was has not been told apart, so none is let through.
//
// Hides: where in a frame the last read ended.
// Thread safety: thread-compatible; one connection's bytes come one read after the other.
// Errors: INVALID_ARGUMENT: this is no HTTP/2, or no client of gRPC's sends it. RESOURCE_EXHAUSTED:
// too much or too fast. After an error the connection is to be cut; nothing more is taken.
// Source: RFC 9113, sections 3.4, 4.1 and 6.
class FrameMeter {
 public:
  struct Limits {
    // A call of ours has 300 bytes of header; a person's grpcurl twice that.
    uint32_t header_block_bytes = 16 << 10;
    // The largest message is 4 MiB, and a client may put it into one frame.
    uint32_t frame_bytes = 5 << 20;
    double streams_per_second = 100'000;
    // Before the daemon's settings are acknowledged. A client answers them with its first read.
    uint32_t unacknowledged_streams = 256;
    // A client resets a stream when a deadline passes or a call is cancelled. Over all connections
    // of a process.
    double resets_per_second = 64;
    double resets_burst = 256;
    // Frames that carry no request, beyond those that come with the requests.
    double control_per_second = 1'000;
    double control_burst = 2'000;
  };

  FrameMeter() : FrameMeter(NewResets()) {}
  // `resets` is what this connection and the others of its process may still take back.
  explicit FrameMeter(std::shared_ptr<TokenBucket> resets);

  // What a process may take back that has not done so yet.
  static std::shared_ptr<TokenBucket> NewResets();

  // The next bytes of the connection.
  absl::Status Take(absl::string_view bytes, BootTime now);

 private:
  static constexpr size_t kHeaderBytes = 9;
  // What each request may bring along in window updates and pings, which measure the bandwidth.
  static constexpr uint32_t kControlFramesOfRequest = 8;
  static constexpr uint32_t kMostControlCredit = 1 << 16;

  struct Frame {
    uint32_t length = 0;
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
  };

  absl::Status TakePreface(absl::string_view& bytes);
  absl::Status Begin(const Frame& frame, BootTime now);
  // Whether the header of a frame of this type can be so.
  bool IsWellFormed(const Frame& frame) const;
  absl::Status BeginRequest(const Frame& frame, BootTime now);
  absl::Status BeginHeaders(const Frame& frame);
  absl::Status CountControl(BootTime now);

  const Limits limits_ = {};
  size_t preface_seen_ = 0;
  std::array<char, kHeaderBytes> header_ = {};
  size_t header_seen_ = 0;
  uint32_t payload_left_ = 0;
  uint32_t header_block_ = 0;  // bytes of a header block that has not ended
  uint32_t control_credit_ = 0;
  uint32_t last_stream_ = 0;
  uint32_t streams_seen_ = 0;  // until the settings are acknowledged
  bool acknowledged_ = false;
  TokenBucket streams_;
  const std::shared_ptr<TokenBucket> resets_;
  TokenBucket control_;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_FRAME_METER_H_
