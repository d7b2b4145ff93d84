// HTTP/2 frames as bytes, for tests of the limits on a client's frames.
#ifndef TESTS_SERVER_TRANSPORT_HTTP2_FRAMES_H_
#define TESTS_SERVER_TRANSPORT_HTTP2_FRAMES_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tenure::server {

inline constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr uint8_t kData = 0;
inline constexpr uint8_t kHeaders = 1;
inline constexpr uint8_t kReset = 3;
inline constexpr uint8_t kSettings = 4;
inline constexpr uint8_t kPing = 6;
inline constexpr uint8_t kWindowUpdate = 8;
inline constexpr uint8_t kContinuation = 9;
inline constexpr uint8_t kEndHeaders = 4;
inline constexpr uint8_t kAcknowledge = 1;

// A frame with `length` bytes of payload.
inline std::string FrameOf(uint8_t type, uint8_t flags, size_t length, uint32_t stream = 0) {
  std::string frame(9, 0);
  for (size_t i = 0; i < 4; ++i) frame[5 + i] = static_cast<char>(stream >> (24 - 8 * i));
  frame[0] = static_cast<char>(length >> 16);
  frame[1] = static_cast<char>(length >> 8);
  frame[2] = static_cast<char>(length);
  frame[3] = static_cast<char>(type);
  frame[4] = static_cast<char>(flags);
  return frame + std::string(length, 'x');
}

// The first bytes of a client.
inline std::string Opening() {
  return std::string(kPreface) + FrameOf(kSettings, 0, 12) + FrameOf(kSettings, kAcknowledge, 0);
}

// A request that its client cancels at once.
inline std::string ResetCall(uint32_t stream) {
  return FrameOf(kHeaders, kEndHeaders, 100, stream) + FrameOf(kReset, 0, 4, stream);
}

}  // namespace tenure::server

#endif  // TESTS_SERVER_TRANSPORT_HTTP2_FRAMES_H_
