// Hostile clients: their connections are cut, all others are served, and the books balance.

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/raw_http2.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

constexpr char kPing[] = "/tenure.v1.Stats/Ping";
constexpr char kGetStats[] = "/tenure.v1.Stats/GetStats";

class HostileTest : public ::testing::Test {
 protected:
  http2::Connection Open() {
    http2::Connection connection(daemon_.socket());
    EXPECT_TRUE(connection.Send(http2::Opening()));
    return connection;
  }
  void ExpectServed() {
    // A slow run may have outlasted the lease.
    EXPECT_TRUE(honest_.KeepAlive().ok());
    EXPECT_TRUE(honest_.Allocate(100).ok());
    EXPECT_EQ(daemon_.GetStats().active_sessions(), 1u);
  }
  void ExpectServedAsBefore(uint64_t cut) {
    ExpectServed();
    EXPECT_EQ(daemon_.GetStats().totals().connections_cut(), cut);
  }

  TestDaemon daemon_;
  RawSession honest_{daemon_.allocator()};
};

TEST_F(HostileTest, AStormOfResetStreamsIsCut) {
  http2::Connection hostile = Open();
  ASSERT_TRUE(hostile.Send(http2::Frame(http2::kSettings, http2::kAcknowledge, 0, "")));
  bool open = true;
  for (uint32_t stream = 1; open && stream < 400'000; stream += 2) {
    open = hostile.Send(
        http2::Frame(http2::kHeaders, http2::kEndHeaders, stream, http2::HeaderBlock(kPing)) +
        http2::Frame(http2::kResetStream, http2::kNone, stream, std::string("\0\0\0\x8", 4)));
  }
  EXPECT_FALSE(open) << "200 000 streams were opened and reset";
  ExpectServedAsBefore(1);
}

// Not hostile: gRPC's clients send it when a call is cancelled before its HEADERS are written.
TEST_F(HostileTest, AResetOfAStreamThatWasNeverOpenedEndsNothing) {
  http2::Connection client = Open();
  ASSERT_TRUE(
      client.Send(http2::Frame(http2::kSettings, http2::kAcknowledge, 0, "") +
                  http2::Frame(http2::kResetStream, http2::kNone, 1, std::string("\0\0\0\x8", 4)) +
                  http2::Call(3, kPing, "")));
  std::string received;
  bool closed = false;
  // The answer's data and its trailers, which end the stream.
  EXPECT_TRUE(Eventually([&] {
    received += client.Receive(&closed);
    return closed || absl::StrContains(received, "grpc-status");
  }));
  EXPECT_FALSE(closed);
  ExpectServedAsBefore(0);
}

TEST_F(HostileTest, AHeaderWithoutEndIsCut) {
  http2::Connection hostile = Open();
  bool open =
      hostile.Send(http2::Frame(http2::kHeaders, http2::kNone, 1, http2::HeaderBlock(kPing)));
  const std::string more = std::string(1, '\0') + "\x05xxxxx" + "\x7e" + std::string(126, 'y');
  for (int i = 0; open && i < 300'000; ++i) {
    open = hostile.Send(http2::Frame(http2::kContinuation, http2::kNone, 1, more));
  }
  EXPECT_FALSE(open) << "40 MB of header were taken";
  ExpectServedAsBefore(1);
}

// Without the daemon's meter, such a client made gRPC allocate 13 GB.
TEST_F(HostileTest, RequestsWithoutEndFromAClientThatAcknowledgesNothingAreCut) {
  http2::Connection hostile = Open();
  bool open = true;
  for (uint32_t stream = 1; open && stream < 400'000; stream += 2) {
    open = hostile.Send(http2::Call(stream, kPing, ""));
  }
  EXPECT_FALSE(open);
  ExpectServedAsBefore(1);
}

TEST_F(HostileTest, AfterBrokenFramesNothingMoreIsTaken) {
  http2::Connection hostile = Open();
  ASSERT_TRUE(hostile.Send(http2::Frame(http2::kSettings, http2::kAcknowledge, 0, "")));
  // These frames are well formed, but their headers cannot be decompressed.
  bool open = true;
  for (uint32_t stream = 1; open && stream < 400'000; stream += 2) {
    open = hostile.Send(http2::Frame(http2::kHeaders, http2::kEndHeaders, stream, "\xff\xff\xff"));
  }
  EXPECT_FALSE(open);
  EXPECT_TRUE(honest_.Allocate(100).ok());
}

TEST_F(HostileTest, AConnectionWhoseAnswersAreLeftUnreadIsCut) {
  http2::Connection hostile = Open();
  // With a large window, HTTP/2 does not stop the answers, so the socket fills.
  ASSERT_TRUE(hostile.Send(
      http2::Frame(http2::kSettings, http2::kAcknowledge, 0, "") +
      http2::Frame(http2::kWindowUpdate, http2::kNone, 0, std::string("\x3f\xff\x00\x00", 4))));
  const auto unread = [&hostile] {
    int bytes = 0;
    EXPECT_EQ(ioctl(hostile.fd(), FIONREAD, &bytes), 0);
    return bytes;
  };
  // Only a few calls are open at a time, so the number of streams is not the reason for the cut.
  uint32_t stream = 1;
  int before = -1;
  ASSERT_TRUE(Eventually([&] {
    const int now = unread();
    if (now == before && now > 10'000) return true;
    before = now;
    for (int i = 0; i < 8; ++i, stream += 2) {
      EXPECT_TRUE(hostile.Send(http2::Call(stream, kGetStats, "")));
    }
    const int enough = now + 8 * 100;
    // Waits until they are answered or the socket is full.
    for (int look = 0; look < 200 && unread() < enough; ++look) usleep(1'000);
    return false;
  }));
  EXPECT_TRUE(Eventually([&] {
    pollfd entry = {hostile.fd(), POLLRDHUP, 0};
    return poll(&entry, 1, 0) == 1;
  })) << unread()
      << " bytes are unread, and the connection is open";
  ExpectServedAsBefore(1);
}

TEST_F(HostileTest, ASocketThatWasPassedOnIsNotServed) {
  http2::Connection connection = Open();
  ASSERT_TRUE(connection.Send(http2::Call(1, kPing, "")));
  // The maker of the connection is served.
  std::string answer;
  bool closed = false;
  ASSERT_TRUE(Eventually([&] {
    answer += connection.Receive(&closed);
    return answer.find("grpc-status") != std::string::npos;
  }));
  EXPECT_FALSE(closed);
  // Before the fork: this process has threads, so the child must not need a lock of the allocator.
  const std::string call = http2::Call(3, kPing, "");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    _exit(send(connection.fd(), call.data(), call.size(), MSG_NOSIGNAL) > 0 ? 0 : 1);
  }
  EXPECT_EQ(WaitForExit(child), 0);
  EXPECT_TRUE(Eventually([&] { return connection.IsClosed(); }));
  ExpectServedAsBefore(1);
}

TEST_F(HostileTest, FilesThatComeAlongDoNotStay) {
  const auto descriptors = [this] {
    return std::distance(
        std::filesystem::directory_iterator("/proc/" + std::to_string(daemon_.pid()) + "/fd"),
        std::filesystem::directory_iterator());
  };
  http2::Connection hostile = Open();
  ASSERT_TRUE(Eventually([&] { return daemon_.GetStats().connections() >= 3; }));
  const auto before = descriptors();
  for (uint32_t stream = 1; stream < 100; stream += 2) {
    std::string call = http2::Call(stream, kPing, "");
    iovec data = {call.data(), call.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int file = STDERR_FILENO;
    std::memcpy(CMSG_DATA(header), &file, sizeof file);
    ASSERT_GT(sendmsg(hostile.fd(), &message, MSG_NOSIGNAL), 0);
  }
  std::string answers;
  bool closed = false;
  ASSERT_TRUE(Eventually([&] {
    answers += hostile.Receive(&closed);
    size_t count = 0;
    for (size_t at = answers.find("grpc-status"); at != std::string::npos;
         at = answers.find("grpc-status", at + 1)) {
      ++count;
    }
    return count >= 1;
  }));
  EXPECT_EQ(descriptors(), before);
}

TEST_F(HostileTest, TenThousandConnectionsComeAndGo) {
  std::deque<http2::Connection> crowd;
  for (int i = 0; i < 10'000; ++i) {
    crowd.emplace_back(daemon_.socket());
    if (crowd.back().fd() < 0) GTEST_FAIL() << "connection " << i << " was not taken";
    ASSERT_TRUE(crowd.back().Send(http2::Opening())) << i;
  }
  ExpectServed();
  ASSERT_TRUE(Eventually([&] { return daemon_.GetStats().connections() >= 10'000; }))
      << daemon_.GetStats().connections();
  crowd.clear();
  EXPECT_TRUE(Eventually([&] { return daemon_.GetStats().connections() < 10; }));
  ExpectServedAsBefore(0);
}

TEST(LimitTest, ATenantHasOnlySoManyConnections) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--max-tenant-connections", "20"}});
  RawSession session(daemon.allocator());
  std::deque<http2::Connection> crowd;
  for (int i = 0; i < 50; ++i) {
    crowd.emplace_back(daemon.socket());
    crowd.back().Send(http2::Opening());
  }
  EXPECT_TRUE(Eventually([&] {
    return std::count_if(crowd.begin(), crowd.end(),
                         [](http2::Connection& one) { return one.IsClosed(); }) >= 30;
  }));
  EXPECT_TRUE(session.Allocate(100).ok()) << "a connected client is not affected";
  crowd.clear();
  EXPECT_TRUE(Eventually([&] {
    return daemon.NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                                 std::chrono::milliseconds(500));
  }));
}

TEST(LimitTest, ADaemonWithoutDescriptorsTurnsCallersAwayAndRecovers) {
  TestDaemon daemon(TestDaemon::Options{.wrapper = {"prlimit", "--nofile=200:200"}});
  RawSession session(daemon.allocator());
  std::deque<http2::Connection> crowd;
  for (int i = 0; i < 300; ++i) {
    crowd.emplace_back(daemon.socket());
    crowd.back().Send(http2::Opening());
  }
  EXPECT_TRUE(Eventually([&] { return crowd.back().IsClosed(); }));
  EXPECT_TRUE(session.Allocate(100).ok());
  crowd.clear();
  EXPECT_TRUE(Eventually([&] {
    RawSession another(daemon.allocator());
    return another.Allocate(100).ok();
  }));
  EXPECT_TRUE(Eventually([&] {
    return daemon.NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                                 std::chrono::milliseconds(500));
  }));
  EXPECT_EQ(daemon.Stop(), 0);
}

// The descriptors of regions hold the low numbers, so that the sockets of connections get numbers
// above the connections' share.
TEST(LimitTest, ConnectionsBesideManyDescriptorsAreServedOrTurnedAwayAndEndNothing) {
  TestDaemon daemon(TestDaemon::Options{.wrapper = {"prlimit", "--nofile=400:400"}});
  RawSession session(daemon.allocator());
  v1::Token token;
  for (int i = 0; i < 90; ++i) {
    v1::AllocateRequest request = session.Request(MiB(2).value());
    request.set_placement(v1::PLACEMENT_DIRECT);
    request.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
    ASSERT_TRUE(session.Send(request, &token).ok());
  }
  std::deque<http2::Connection> crowd;
  for (int i = 0; i < 400; ++i) {
    crowd.emplace_back(daemon.socket());
    crowd.back().Send(http2::Opening());
  }
  EXPECT_TRUE(Eventually([&] { return crowd.back().IsClosed(); }));
  EXPECT_TRUE(daemon.Running());
  EXPECT_TRUE(session.Free(token.allocation_id()).ok());
}

// Uses up the requests that this user may send. Returns the refusal.
grpc::Status PingUntilRefused(TestDaemon& daemon) {
  grpc::Status refused;
  for (int i = 0; i < 1000 && refused.ok(); ++i) {
    grpc::ClientContext context;
    v1::PingResponse response;
    refused = daemon.stats().Ping(&context, {}, &response);
  }
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  return refused;
}

// Waits until this user may send requests again.
uint64_t ConnectionsCut(TestDaemon& daemon) {
  v1::GetStatsResponse stats;
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    return daemon.stats().GetStats(&context, {}, &stats).ok();
  }));
  return stats.totals().connections_cut();
}

TEST(LimitTest, ATenantMakesOnlySoManyRequestsASecond) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--max-tenant-requests", "50"}});
  const grpc::Status refused = PingUntilRefused(daemon);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(refused.error_message().find("--max-tenant-requests"), std::string::npos)
      << refused.error_message();
  EXPECT_TRUE(Eventually([&] { return RawSession(daemon.allocator()).id() != 0; }));
}

TEST(LimitTest, WhatGivesBackIsNotRefusedForTheRate) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--max-tenant-requests", "50"}});
  RawSession session(daemon.allocator());
  std::vector<uint64_t> allocations;
  for (int i = 0; i < 20; ++i) {
    v1::Token token;
    ASSERT_TRUE(session.Allocate(100, &token).ok());
    allocations.push_back(token.allocation_id());
  }
  for (const uint64_t allocation : allocations) {
    PingUntilRefused(daemon);
    EXPECT_TRUE(session.Free(allocation).ok());
  }
  PingUntilRefused(daemon);
  EXPECT_TRUE(session.KeepAlive().ok());
  EXPECT_TRUE(session.Close().ok());
  EXPECT_EQ(ConnectionsCut(daemon), 0u);
}

TEST(LimitTest, GiveBacksOfWhatIsNotHeldAreCountedAndTheConnectionIsCut) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--max-tenant-requests", "50"}});
  RawSession session(daemon.allocator());
  grpc::Status last;
  for (int i = 0; i < 1000 && last.error_code() != grpc::StatusCode::UNAVAILABLE; ++i) {
    last = session.Free(12345);
  }
  EXPECT_EQ(last.error_code(), grpc::StatusCode::UNAVAILABLE);
  daemon.Reconnect();
  EXPECT_GE(ConnectionsCut(daemon), 1u);
}

TEST(LimitTest, ATenantHoldsOnlySoMuchMemory) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--max-tenant-bytes", "64MiB"}});
  RawSession session(daemon.allocator());
  v1::Token token;
  ASSERT_TRUE(session.Allocate(MiB(60).value(), &token).ok());
  const grpc::Status refused = session.Allocate(MiB(6).value());
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(refused.error_message().find("--max-tenant-bytes"), std::string::npos)
      << refused.error_message();
  EXPECT_TRUE(session.Allocate(MiB(4).value()).ok());
  ASSERT_TRUE(session.Free(token.allocation_id()).ok());
  EXPECT_TRUE(session.Allocate(MiB(60).value()).ok());
}

}  // namespace
}  // namespace tenure::testing
