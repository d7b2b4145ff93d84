// The identity of a connection: it serves only the process that made it, and garbage closes it.

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_http2.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

int ConnectTo(const TestDaemon& daemon) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, daemon.socket().c_str(), sizeof address.sun_path - 1);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// Reads until the other side closes, and returns the bytes.
std::string ReadToEnd(int fd) {
  std::string all;
  char bytes[4096];
  ssize_t length = 0;
  while ((length = read(fd, bytes, sizeof bytes)) > 0)
    all.append(bytes, static_cast<size_t>(length));
  return all;
}

TEST(IdentityTest, GarbageOnTheSocketHarmsNoOtherClient) {
  signal(SIGPIPE, SIG_IGN);
  TestDaemon daemon;
  RawSession session(daemon.allocator());
  ASSERT_TRUE(session.Allocate(100).ok());
  std::mt19937 random(1);
  for (int i = 0; i < 50; ++i) {
    const int fd = ConnectTo(daemon);
    std::string garbage(1 + random() % 20000, 0);
    for (char& byte : garbage) byte = static_cast<char>(random());
    // Every second connection begins with HTTP/2's preface, which is valid.
    if (i % 2 == 0) garbage.insert(0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    EXPECT_GT(write(fd, garbage.data(), garbage.size()), 0);
    shutdown(fd, SHUT_WR);
    ReadToEnd(fd);
    close(fd);
  }
  EXPECT_TRUE(session.Allocate(100).ok());
  EXPECT_EQ(daemon.GetStats().active_allocations(), 2u);
  EXPECT_EQ(daemon.GetStats().active_sessions(), 1u);
}

TEST(IdentityTest, ASilentConnectionIsDroppedWhileOthersAreServed) {
  TestDaemon daemon;
  const int silent = ConnectTo(daemon);
  RawSession session(daemon.allocator());
  EXPECT_TRUE(session.Allocate(100).ok());
  EXPECT_EQ(ReadToEnd(silent), "");  // returns when the daemon closes
  close(silent);
}

TEST(IdentityTest, AConnectionMadeByOneProcessServesNoOther) {
  TestDaemon daemon;
  const int fd = ConnectTo(daemon);
  // Before the fork: this process has threads, so the child must not need a lock of the allocator.
  const std::string all = http2::Opening() + http2::Call(1, "/tenure.v1.Stats/Ping", "");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // The child writes first on the socket that its parent connected.
    _exit(write(fd, all.data(), all.size()) == static_cast<ssize_t>(all.size()) ? 0 : 1);
  }
  EXPECT_EQ(WaitForExit(child), 0);
  // The answer is PERMISSION_DENIED (7) with this message.
  std::string answer;
  EXPECT_TRUE(Eventually([&] {
    char bytes[4096];
    const ssize_t length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (length > 0) answer.append(bytes, static_cast<size_t>(length));
    return answer.find("every process connects for itself") != std::string::npos;
  })) << answer;
  close(fd);
}

TEST(IdentityTest, AClientInAForeignPidNamespaceIsToldWhatToDo) {
  if (geteuid() != 0) GTEST_SKIP() << "making a PID namespace needs root";
  // The daemon sees only its own namespace, so this test process, outside it, has no pid there.
  TestDaemon daemon(TestDaemon::Options{
      .wrapper = {"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"}});
  const auto stub = v1::Allocator::NewStub(daemon.NewChannel());
  grpc::ClientContext context;
  v1::OpenSessionRequest request;
  request.set_request_id(1);
  v1::OpenSessionResponse response;
  const grpc::Status status = stub->OpenSession(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_NE(status.error_message().find("--pid=host"), std::string::npos) << status.error_message();
  kill(daemon.pid(), SIGKILL);  // unshare does not pass SIGTERM on
  daemon.WaitForEnd();
}

}  // namespace
}  // namespace tenure::testing
