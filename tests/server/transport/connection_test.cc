// Which bytes of a client reach gRPC.

#include "server/transport/connection.h"

#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "tests/server/transport/http2_frames.h"
#include "tests/server/transport/socket_pair.h"

namespace tenure::server {
namespace {

constexpr BootTime kNow = absl::Hours(1);
constexpr ucred kClient = {4711, 1000, 1000};

Connection::Caller ClientPeer() {
  return Peer::Imagined(UniqueFd(), ProcessKey{kClient.pid, 1}, kClient.uid);
}

class ConnectionTest : public ::testing::Test {
 protected:
  Connection Make(Connection::Caller caller) {
    return Connection(sockets_.daemon.get(), std::move(caller),
                      ConnectionPermit(std::make_shared<TenantLoad>(1'000)),
                      FrameMeter::NewResets());
  }
  // A read that brings these bytes.
  static absl::Status Read(Connection& connection, std::string bytes,
                           const ucred* writer = &kClient) {
    const iovec buffer = {bytes.data(), bytes.size()};
    return connection.OnRead({&buffer, 1}, bytes.size(), writer, kNow);
  }

  SocketPair sockets_;
};

TEST_F(ConnectionTest, OnlyTheProcessThatConnectedMayWrite) {
  Connection connection = Make(ClientPeer());
  EXPECT_TRUE(Read(connection, Opening()).ok());
  for (const ucred& other :
       {ucred{4712, 1000, 1000}, ucred{4711, 1001, 1000}, ucred{4711, 1000, 0}}) {
    const absl::Status refused = Read(connection, FrameOf(kPing, 0, 8), &other);
    EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
    EXPECT_NE(std::string(refused.message()).find("every process connects for itself"),
              std::string::npos);
  }
  EXPECT_TRUE(absl::IsPermissionDenied(Read(connection, FrameOf(kPing, 0, 8), nullptr)));
}

TEST_F(ConnectionTest, ARefusedCallersBytesPassWhoeverWritesThemSoThatItGetsItsAnswer) {
  Connection connection = Make(absl::PermissionDeniedError("not for you"));
  const ucred other = {1, 2, 3};
  EXPECT_TRUE(Read(connection, Opening(), &other).ok());
  EXPECT_TRUE(Read(connection, FrameOf(kHeaders, kEndHeaders, 100, 1), nullptr).ok());
  EXPECT_FALSE(Read(connection, FrameOf(kContinuation, 0, 10, 1)).ok()) << "frames still count";
}

TEST_F(ConnectionTest, BytesAreCheckedAcrossBuffersAndNotBeyondTheLengthOfTheRead) {
  Connection connection = Make(ClientPeer());
  std::string bytes = Opening() + "what an earlier read left in the buffer";
  const iovec buffers[] = {{bytes.data(), 10}, {bytes.data() + 10, bytes.size() - 10}};
  EXPECT_TRUE(connection.OnRead(buffers, Opening().size(), &kClient, kNow).ok());
  EXPECT_TRUE(Read(connection, FrameOf(kPing, 0, 8)).ok());
}

TEST_F(ConnectionTest, AClientThatLeavesItsAnswersUnreadMaySendOnlyLittleMore) {
  Connection connection = Make(ClientPeer());
  ASSERT_TRUE(Read(connection, Opening() + FrameOf(kHeaders, kEndHeaders, 100, 1)).ok());
  const std::string message = FrameOf(kData, 0, 40 << 10, 1);
  connection.OnWritten(/*all=*/false, kNow);
  EXPECT_TRUE(Read(connection, message).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Read(connection, message)));
}

TEST_F(ConnectionTest, AClientThatReadsAgainMaySendAsBefore) {
  Connection connection = Make(ClientPeer());
  ASSERT_TRUE(Read(connection, Opening() + FrameOf(kHeaders, kEndHeaders, 100, 1)).ok());
  const std::string message = FrameOf(kData, 0, 40 << 10, 1);
  for (int i = 0; i < 10; ++i) {
    connection.OnWritten(/*all=*/false, kNow);
    EXPECT_TRUE(Read(connection, message).ok());
    connection.OnWritten(/*all=*/true, kNow);
    EXPECT_TRUE(Read(connection, message).ok());
  }
}

TEST_F(ConnectionTest, ItIsStuckFromTheFirstWriteThatDidNotFit) {
  Connection connection = Make(ClientPeer());
  constexpr absl::Duration kPatience = absl::Seconds(1);
  EXPECT_FALSE(connection.IsStuck(kNow + absl::Hours(1), kPatience));
  connection.OnWritten(/*all=*/false, kNow);
  connection.OnWritten(/*all=*/false, kNow + absl::Milliseconds(900));
  EXPECT_FALSE(connection.IsStuck(kNow + absl::Milliseconds(999), kPatience));
  EXPECT_TRUE(connection.IsStuck(kNow + kPatience, kPatience));
  connection.OnWritten(/*all=*/true, kNow + kPatience);
  EXPECT_FALSE(connection.IsStuck(kNow + absl::Hours(1), kPatience));
}

TEST_F(ConnectionTest, ItIsCutForTheClientToSeeAndNotAfterItsNumberIsFree) {
  Connection connection = Make(ClientPeer());
  connection.NoteClosed();
  connection.Cut();
  EXPECT_FALSE(sockets_.IsCut()) << "the number may be another connection's by now";
  Connection another = Make(ClientPeer());
  another.Cut();
  EXPECT_TRUE(sockets_.IsCut());
}

}  // namespace
}  // namespace tenure::server
