// Which frames a client may send, and which get its connection cut.

#include "server/transport/frame_meter.h"

#include <memory>
#include <random>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "tests/server/transport/http2_frames.h"

namespace tenure::server {
namespace {

// A unary call as gRPC's client sends it.
std::string Call(uint32_t stream) {
  return FrameOf(kHeaders, kEndHeaders, 200, stream) + FrameOf(kData, 1, 40, stream) +
         FrameOf(kWindowUpdate, 0, 4) + FrameOf(kPing, 1, 8);
}

class FrameMeterTest : public ::testing::Test {
 protected:
  absl::Status Read(absl::string_view bytes) { return meter_.Read(bytes, now_); }
  void Begin() { ASSERT_TRUE(Read(Opening()).ok()); }
  // How many of these are taken before one is not.
  int CountUntilRefused(const std::string& frames, int limit) {
    int taken = 0;
    while (taken < limit && Read(frames).ok()) ++taken;
    return taken;
  }
  // The same for calls, each on a stream of its own.
  int CountUntilRefused(std::string (*call)(uint32_t), int limit) {
    int taken = 0;
    while (taken < limit && Read(call(NextStream())).ok()) ++taken;
    return taken;
  }
  uint32_t NextStream() { return std::exchange(stream_, stream_ + 2); }

  FrameMeter meter_;
  BootTime now_ = absl::Hours(1);
  uint32_t stream_ = 1;
};

TEST_F(FrameMeterTest, AClientsCallsPassHoweverTheyAreCutIntoReads) {
  std::string stream(kPreface);
  stream += FrameOf(kSettings, 0, 12) + FrameOf(kSettings, kAcknowledge, 0);
  for (int i = 0; i < 1000; ++i) stream += Call(NextStream());
  const uint32_t last = NextStream();
  stream += FrameOf(kHeaders, kEndHeaders, 200, last) + FrameOf(kData, 1, 128 << 10, last);
  std::mt19937 random(1);
  for (size_t at = 0; at < stream.size();) {
    const size_t length = std::min<size_t>(1 + random() % 700, stream.size() - at);
    ASSERT_TRUE(Read(absl::string_view(stream).substr(at, length)).ok()) << at;
    at += length;
  }
}

TEST_F(FrameMeterTest, WhatIsNotHttp2IsRefusedAtItsFirstWrongByte) {
  EXPECT_TRUE(Read("PRI * HTTP/2.0\r\n\r\nS").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Read("X")));
  EXPECT_TRUE(absl::IsInvalidArgument(FrameMeter().Read("GET / HTTP/1.1\r\n", now_)));
}

TEST_F(FrameMeterTest, AStormOfResetStreamsIsCutLongBeforeItHurts) {
  Begin();
  const int pairs = CountUntilRefused(ResetCall, 200'000);
  EXPECT_LE(pairs, 256);
  EXPECT_GE(pairs, 64) << "a client may cancel all its calls at once";
}

// As gRPC's clients send it for a call that is cancelled before its HEADERS are written.
TEST_F(FrameMeterTest, AResetOfAStreamThatWasNeverOpenedPassesAndCountsAsAReset) {
  Begin();
  ASSERT_TRUE(Read(Call(NextStream())).ok());
  const std::string reset = FrameOf(kReset, 0, 4, NextStream());
  EXPECT_TRUE(Read(reset).ok());
  EXPECT_TRUE(Read(Call(NextStream())).ok()) << "the connection serves on";
  EXPECT_LE(CountUntilRefused(reset, 200'000), 256);
}

TEST_F(FrameMeterTest, AProcessThatWasCutForResetsGetsNoNewAllowanceByConnectingAgain) {
  const auto taken_by = [this](FrameMeter meter) {
    EXPECT_TRUE(meter.Read(kPreface, now_).ok());
    EXPECT_TRUE(meter.Read(FrameOf(kSettings, kAcknowledge, 0), now_).ok());
    int taken = 0;
    for (uint32_t stream = 1; meter.Read(ResetCall(stream), now_).ok(); stream += 2) ++taken;
    return taken;
  };
  const std::shared_ptr<TokenBucket> of_process = FrameMeter::NewResets();
  EXPECT_GE(taken_by(FrameMeter(of_process)), 64);
  EXPECT_EQ(taken_by(FrameMeter(of_process)), 0);
  now_ += absl::Seconds(1);
  EXPECT_LE(taken_by(FrameMeter(of_process)), 64);
  EXPECT_TRUE(of_process->IsFull(now_ + absl::Seconds(10)));
}

TEST_F(FrameMeterTest, AClientMayCancelNowAndThenForEver) {
  Begin();
  for (int i = 0; i < 10'000; ++i) {
    now_ += absl::Milliseconds(20);
    ASSERT_TRUE(Read(ResetCall(NextStream())).ok()) << i;
  }
}

TEST_F(FrameMeterTest, AHeaderWithoutEndIsCut) {
  Begin();
  ASSERT_TRUE(Read(FrameOf(kHeaders, 0, 1000, 1)).ok());
  EXPECT_LE(CountUntilRefused(FrameOf(kContinuation, 0, 1000, 1), 1000), 16);
}

TEST_F(FrameMeterTest, AHeaderWithoutEndMadeOfNothingIsCut) {
  Begin();
  ASSERT_TRUE(Read(FrameOf(kHeaders, 0, 0, 1)).ok());
  EXPECT_LE(CountUntilRefused(FrameOf(kContinuation, 0, 0, 1), 10'000), 256);
}

TEST_F(FrameMeterTest, OneLargeHeaderIsCutBeforeItsBytesArrive) {
  Begin();
  EXPECT_TRUE(
      absl::IsResourceExhausted(Read(FrameOf(kHeaders, kEndHeaders, 20'000, 1).substr(0, 9))));
}

TEST_F(FrameMeterTest, FramesOutOfOrderAreCut) {
  Begin();
  EXPECT_TRUE(absl::IsInvalidArgument(Read(FrameOf(kContinuation, kEndHeaders, 10, 1))));
  FrameMeter other;
  ASSERT_TRUE(other.Read(kPreface, now_).ok());
  ASSERT_TRUE(other.Read(FrameOf(kHeaders, 0, 10, 1), now_).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(other.Read(FrameOf(kData, 0, 10, 1), now_)));
}

TEST_F(FrameMeterTest, FramesThatCannotBeAreCut) {
  const std::string opened = FrameOf(kHeaders, kEndHeaders, 10, 5);
  for (const std::string& wrong :
       {FrameOf(kHeaders, kEndHeaders, 10, 5), FrameOf(kHeaders, kEndHeaders, 10, 3),
        FrameOf(kHeaders, kEndHeaders, 10, 6), FrameOf(kHeaders, kEndHeaders, 10, 0x80000007),
        FrameOf(kData, 0, 10, 7), FrameOf(kData, 0, 10, 0), FrameOf(2, 0, 4, 5),
        FrameOf(kReset, 0, 5, 5), FrameOf(kReset, 0, 4, 2), FrameOf(kSettings, 0, 7),
        FrameOf(kSettings, 0, 6, 5), FrameOf(kSettings, kAcknowledge, 6), FrameOf(5, 0, 4, 5),
        FrameOf(kPing, 0, 9), FrameOf(kPing, 0, 8, 5), FrameOf(7, 0, 7),
        FrameOf(kWindowUpdate, 0, 5), FrameOf(kWindowUpdate, 0, 4, 7)}) {
    FrameMeter meter;
    ASSERT_TRUE(meter.Read(std::string(kPreface) + opened, now_).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(meter.Read(wrong, now_)))
        << "type " << static_cast<int>(wrong[3]) << " on stream " << static_cast<int>(wrong[8]);
  }
}

TEST_F(FrameMeterTest, AClientThatNeverAcknowledgesTheSettingsGetsFewStreams) {
  ASSERT_TRUE(Read(kPreface).ok());
  EXPECT_LE(CountUntilRefused(Call, 10'000), 256);
}

TEST_F(FrameMeterTest, FloodsThatAskForNothingAreCut) {
  for (const std::string& flood :
       {FrameOf(kPing, 0, 8), FrameOf(kSettings, 0, 0), FrameOf(kWindowUpdate, 0, 4),
        FrameOf(kData, 0, 0, 1), FrameOf(2, 0, 5), FrameOf(77, 0, 0)}) {
    FrameMeter meter;
    ASSERT_TRUE(meter.Read(kPreface, now_).ok());
    ASSERT_TRUE(meter.Read(FrameOf(kHeaders, kEndHeaders, 10, 1), now_).ok());
    int taken = 0;
    while (taken < 100'000 && meter.Read(flood, now_).ok()) ++taken;
    EXPECT_LE(taken, 2'008) << static_cast<int>(flood[3]);
  }
}

TEST_F(FrameMeterTest, AFrameLargerThanAnyMessageIsCut) {
  Begin();
  EXPECT_TRUE(absl::IsInvalidArgument(Read(FrameOf(kData, 0, 6 << 20, 1).substr(0, 9))));
}

TEST_F(FrameMeterTest, MoreRequestsThanAnyClientMakesAreCut) {
  Begin();
  EXPECT_LE(CountUntilRefused(Call, 300'000), 100'000);
}

}  // namespace
}  // namespace tenure::server
