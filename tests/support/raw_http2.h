// HTTP/2 frames and connections made by hand, to send bytes that no client library sends.
#ifndef TESTS_SUPPORT_RAW_HTTP2_H_
#define TESTS_SUPPORT_RAW_HTTP2_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tenure::testing::http2 {

enum Type : uint8_t {
  kData = 0,
  kHeaders = 1,
  kResetStream = 3,
  kSettings = 4,
  kPing = 6,
  kWindowUpdate = 8,
  kContinuation = 9,
};
enum Flag : uint8_t { kNone = 0, kEndStream = 1, kAcknowledge = 1, kEndHeaders = 4 };

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload);
// The bytes at the start of every connection: the preface and an empty SETTINGS frame.
std::string Opening();
// The header block of a unary gRPC call, without compression, so that it needs no state.
std::string HeaderBlock(const std::string& path);
// A whole call; `message` is a serialised protobuf message. Client streams have odd numbers.
std::string Call(uint32_t stream, const std::string& path, const std::string& message);

// One connection to a unix socket.
//
// Thread safety: thread-confined.
class Connection {
 public:
  // fd() is -1 when no process listens.
  explicit Connection(const std::string& socket_path);
  ~Connection();
  Connection(Connection&& other) noexcept;
  Connection& operator=(Connection&&) = delete;

  int fd() const { return fd_; }
  // Writes all of it; false once the other side has closed.
  bool Send(absl::string_view bytes);
  // The bytes that have arrived; does not wait. Sets `*closed` when the other side has closed.
  std::string Receive(bool* closed);
  // Whether the other side has closed. Discards the bytes that have arrived.
  bool IsClosed();

 private:
  int fd_ = -1;
};

}  // namespace tenure::testing::http2

#endif  // TESTS_SUPPORT_RAW_HTTP2_H_
