// Which descriptors the keeper holds, and for how long.

#include "server/keeper/kept_fds.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "server/keeper/fd_name.h"

namespace tenure::server {
namespace {

UniqueFd Memory() { return UniqueFd(memfd_create("kept_fds_test", MFD_CLOEXEC)); }

struct Pipe {
  Pipe() {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader.Reset(ends[0]);
    writer.Reset(ends[1]);
  }
  UniqueFd reader;
  UniqueFd writer;
};

class KeptFdsTest : public ::testing::Test {
 protected:
  // Reports everything that has happened to `kept`.
  void Poll(KeptFds& kept) const {
    std::array<epoll_event, 8> events;
    const int count = epoll_wait(epoll_.get(), events.data(), 8, 0);
    for (int i = 0; i < count; ++i) {
      kept.CloseIfHungUp(static_cast<int>(events[static_cast<size_t>(i)].data.u64));
    }
  }

  const UniqueFd epoll_{epoll_create1(EPOLL_CLOEXEC)};
};

TEST_F(KeptFdsTest, ANameMayBeThereTwiceAndRemovingItTakesBoth) {
  KeptFds kept(8, epoll_.get());
  for (const char* name : {"a", "b", "a"}) ASSERT_TRUE(kept.Add(name, Memory(), true).ok());
  EXPECT_EQ(kept.Names(), "a:b:a");
  EXPECT_EQ(kept.Remove("a"), 2u);
  EXPECT_EQ(kept.Remove("a"), 0u);
  EXPECT_EQ(kept.Names(), "b");
}

TEST_F(KeptFdsTest, ANameThatCannotBePassedOnIsReplaced) {
  KeptFds kept(8, epoll_.get());
  ASSERT_TRUE(kept.Add("a:b", Memory(), true).ok());
  ASSERT_TRUE(kept.Add("", Memory(), true).ok());
  EXPECT_EQ(kept.Names(), "stored:stored");
}

TEST_F(KeptFdsTest, NeitherMoreThanTheMaximumNorMoreNamesThanCanBePassedOn) {
  KeptFds few(1, epoll_.get());
  ASSERT_TRUE(few.Add("a", Memory(), true).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(few.Add("b", Memory(), true)));
  KeptFds many(4096, epoll_.get());
  const std::string longest(kMaxFdNameBytes, 'n');
  for (size_t bytes = 0; bytes + longest.size() + 1 <= kMaxFdNamesBytes; bytes += 256) {
    ASSERT_TRUE(many.Add(longest, Memory(), true).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(many.Add(longest, Memory(), true)));
  EXPECT_EQ(many.Remove(longest), kMaxFdNamesBytes / 256);
  EXPECT_TRUE(many.Add(longest, Memory(), true).ok());
}

TEST_F(KeptFdsTest, WhatHangsUpGoesUnlessItWasStoredToStay) {
  KeptFds kept(8, epoll_.get());
  Pipe watched;
  Pipe unwatched;
  ASSERT_TRUE(kept.Add("watched", std::move(watched.reader), true).ok());
  ASSERT_TRUE(kept.Add("unwatched", std::move(unwatched.reader), false).ok());
  Poll(kept);
  EXPECT_EQ(kept.Names(), "unwatched:watched");
  watched.writer.Reset();
  unwatched.writer.Reset();
  Poll(kept);
  EXPECT_EQ(kept.Names(), "unwatched");
}

}  // namespace
}  // namespace tenure::server
