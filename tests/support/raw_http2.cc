#include "tests/support/raw_http2.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"

namespace tenure::testing::http2 {

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload) {
  const size_t length = payload.size();
  std::string frame;
  for (const int shift : {16, 8, 0}) frame += static_cast<char>(length >> shift);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  for (const int shift : {24, 16, 8, 0}) frame += static_cast<char>(stream >> shift);
  frame.append(payload.data(), payload.size());
  return frame;
}

std::string Opening() {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, kNone, 0, "");
}

std::string HeaderBlock(const std::string& path) {
  std::string block;
  const auto literal = [&block](const std::string& name, const std::string& value) {
    TENURE_CHECK(name.size() < 127 && value.size() < 127);
    block += std::string(1, '\0') + static_cast<char>(name.size()) + name +
             static_cast<char>(value.size()) + value;
  };
  literal(":method", "POST");
  literal(":scheme", "http");
  literal(":path", path);
  literal(":authority", "localhost");
  literal("content-type", "application/grpc");
  literal("te", "trailers");
  return block;
}

std::string Call(uint32_t stream, const std::string& path, const std::string& message) {
  std::string body(1, '\0');  // not compressed
  for (const int shift : {24, 16, 8, 0}) body += static_cast<char>(message.size() >> shift);
  return Frame(kHeaders, kEndHeaders, stream, HeaderBlock(path)) +
         Frame(kData, kEndStream, stream, body + message);
}

Connection::Connection(const std::string& socket_path)
    : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  TENURE_CHECK(socket_path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return;
  close(fd_);
  fd_ = -1;
}

Connection::~Connection() {
  if (fd_ >= 0) close(fd_);
}

Connection::Connection(Connection&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

bool Connection::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string Connection::Receive(bool* closed) {
  std::string all;
  std::array<char, 16384> bytes;
  while (true) {
    const ssize_t length = recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    *closed = length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR);
    if (length <= 0) return all;
    all.append(bytes.data(), static_cast<size_t>(length));
  }
}

bool Connection::IsClosed() {
  bool closed = false;
  Receive(&closed);
  return closed;
}

}  // namespace tenure::testing::http2
