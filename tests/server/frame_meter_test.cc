// What may come over a connection, and what gets it cut.

#include "server/frame_meter.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr uint8_t kData = 0;
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kReset = 3;
constexpr uint8_t kSettings = 4;
constexpr uint8_t kPing = 6;
constexpr uint8_t kWindowUpdate = 8;
constexpr uint8_t kContinuation = 9;
constexpr uint8_t kEndHeaders = 4;

std::string FrameOf(uint8_t type, uint8_t flags, size_t length) {
  std::string frame(9, 0);
  frame[0] = static_cast<char>(length >> 16);
  frame[1] = static_cast<char>(length >> 8);
  frame[2] = static_cast<char>(length);
  frame[3] = static_cast<char>(type);
  frame[4] = static_cast<char>(flags);
  return frame + std::string(length, 'x');
}

// A unary call as gRPC's client sends it.
std::string Call() {
  return FrameOf(kHeaders, kEndHeaders, 200) + FrameOf(kData, 1, 40) +
         FrameOf(kWindowUpdate, 0, 4) + FrameOf(kPing, 1, 8);
}

class FrameMeterTest : public ::testing::Test {
 protected:
  absl::Status Take(absl::string_view bytes) { return meter_.Take(bytes, now_); }
  void Begin() { ASSERT_TRUE(Take(std::string(kPreface) + FrameOf(kSettings, 0, 12)).ok()); }
  // How many of these are taken before one is not.
  int CountUntilRefused(const std::string& frames, int limit) {
    int taken = 0;
    while (taken < limit && Take(frames).ok()) ++taken;
    return taken;
  }

  FrameMeter meter_;
  BootTime now_ = absl::Hours(1);
};

TEST_F(FrameMeterTest, AClientsCallsPassHoweverTheyAreCutIntoReads) {
  std::string stream(kPreface);
  stream += FrameOf(kSettings, 0, 12);
  for (int i = 0; i < 1000; ++i) stream += Call();
  stream += FrameOf(kHeaders, kEndHeaders, 200) + FrameOf(kData, 1, 128 << 10);
  std::mt19937 random(1);
  for (size_t at = 0; at < stream.size();) {
    const size_t length = std::min<size_t>(1 + random() % 700, stream.size() - at);
    ASSERT_TRUE(Take(absl::string_view(stream).substr(at, length)).ok()) << at;
    at += length;
  }
}

TEST_F(FrameMeterTest, WhatIsNotHttp2IsRefusedAtItsFirstWrongByte) {
  EXPECT_TRUE(Take("PRI * HTTP/2.0\r\n\r\nS").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Take("X")));
  EXPECT_TRUE(absl::IsInvalidArgument(FrameMeter().Take("GET / HTTP/1.1\r\n", now_)));
}

TEST_F(FrameMeterTest, AStormOfResetStreamsIsCutLongBeforeItHurts) {
  Begin();
  const int pairs =
      CountUntilRefused(FrameOf(kHeaders, kEndHeaders, 100) + FrameOf(kReset, 0, 4), 200'000);
  EXPECT_LE(pairs, 256);
  EXPECT_GE(pairs, 64) << "a client may cancel all its calls at once";
}

TEST_F(FrameMeterTest, AClientMayCancelNowAndThenForEver) {
  Begin();
  for (int i = 0; i < 10'000; ++i) {
    now_ += absl::Milliseconds(20);
    ASSERT_TRUE(Take(FrameOf(kHeaders, kEndHeaders, 100) + FrameOf(kReset, 0, 4)).ok()) << i;
  }
}

TEST_F(FrameMeterTest, AHeaderWithoutEndIsCut) {
  Begin();
  ASSERT_TRUE(Take(FrameOf(kHeaders, 0, 1000)).ok());
  EXPECT_LE(CountUntilRefused(FrameOf(kContinuation, 0, 1000), 1000), 16);
}

TEST_F(FrameMeterTest, AHeaderWithoutEndMadeOfNothingIsCut) {
  Begin();
  ASSERT_TRUE(Take(FrameOf(kHeaders, 0, 0)).ok());
  EXPECT_LE(CountUntilRefused(FrameOf(kContinuation, 0, 0), 10'000), 256);
}

TEST_F(FrameMeterTest, OneLargeHeaderIsCutBeforeItsBytesArrive) {
  Begin();
  EXPECT_TRUE(absl::IsResourceExhausted(Take(FrameOf(kHeaders, kEndHeaders, 20'000).substr(0, 9))));
}

TEST_F(FrameMeterTest, FramesOutOfOrderAreCut) {
  Begin();
  EXPECT_TRUE(absl::IsInvalidArgument(Take(FrameOf(kContinuation, kEndHeaders, 10))));
  FrameMeter other;
  ASSERT_TRUE(other.Take(kPreface, now_).ok());
  ASSERT_TRUE(other.Take(FrameOf(kHeaders, 0, 10), now_).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(other.Take(FrameOf(kData, 0, 10), now_)));
}

TEST_F(FrameMeterTest, FloodsThatAskForNothingAreCut) {
  for (const std::string& flood :
       {FrameOf(kPing, 0, 8), FrameOf(kSettings, 0, 0), FrameOf(kWindowUpdate, 0, 4),
        FrameOf(kData, 0, 0), FrameOf(2, 0, 5), FrameOf(77, 0, 0)}) {
    FrameMeter meter;
    ASSERT_TRUE(meter.Take(kPreface, now_).ok());
    int taken = 0;
    while (taken < 100'000 && meter.Take(flood, now_).ok()) ++taken;
    EXPECT_LE(taken, 2'000) << static_cast<int>(flood[3]);
  }
}

TEST_F(FrameMeterTest, AFrameLargerThanAnyMessageIsCut) {
  Begin();
  EXPECT_TRUE(absl::IsInvalidArgument(Take(FrameOf(kData, 0, 1 << 20).substr(0, 9))));
}

TEST_F(FrameMeterTest, MoreRequestsThanAnyClientMakesAreCut) {
  Begin();
  EXPECT_LE(CountUntilRefused(Call(), 300'000), 100'000);
}

}  // namespace
}  // namespace tenure::server
