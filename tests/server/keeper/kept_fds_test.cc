// The keeper's parts: what it holds, what it reads, when it starts the daemon again.

#include "server/keeper/kept_fds.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <systemd/sd-daemon.h>

#include "common/unique_fd.h"
#include "server/keeper/fd_name.h"
#include "server/keeper/keeper.h"
#include "server/keeper/notify_socket.h"

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
  // Lets `kept` hear of everything that has happened.
  void Poll(KeptFds& kept) const {
    std::array<epoll_event, 8> events;
    const int count = epoll_wait(epoll_.get(), events.data(), 8, 0);
    for (int i = 0; i < count; ++i) {
      kept.HungUp(static_cast<int>(events[static_cast<size_t>(i)].data.u64));
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

class NotifySocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<NotifySocket>> opened = NotifySocket::Open();
    ASSERT_TRUE(opened.ok()) << opened.status();
    socket_ = *std::move(opened);
  }

  void Say(const std::string& message, const std::vector<int>& fds) const {
    setenv("NOTIFY_SOCKET", socket_->path().c_str(), 1);
    ASSERT_GT(sd_pid_notify_with_fds(0, 1, message.c_str(), fds.data(),
                                     static_cast<unsigned>(fds.size())),
              0);
  }

  std::unique_ptr<NotifySocket> socket_;
};

TEST_F(NotifySocketTest, AMessageBringsItsLinesItsDescriptorsAndWhoSentIt) {
  EXPECT_FALSE(socket_->Receive());
  const UniqueFd memory = Memory();
  Say("FDSTORE=1\nFDNAME=a=b\n", std::vector<int>(200, memory.get()));
  const std::optional<NotifyMessage> message = socket_->Receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->pid, getpid());
  EXPECT_EQ(message->uid, getuid());
  EXPECT_EQ(message->fds.size(), 200u);
  EXPECT_TRUE(message->Has("FDSTORE=1"));
  EXPECT_FALSE(message->Has("FDSTORE"));
  EXPECT_EQ(message->Value("FDNAME"), "a=b");
  EXPECT_EQ(message->Value("FDPOLL"), std::nullopt);
  EXPECT_FALSE(socket_->Receive());
}

TEST_F(NotifySocketTest, AMessageThatIsTooLongComesFromNobody) {
  Say("STATUS=" + std::string(5000, 'x'), {});
  const std::optional<NotifyMessage> message = socket_->Receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->pid, 0);
  EXPECT_TRUE(message->lines.empty());
}

TEST(StartSpacingTest, ADaemonThatLivedLongIsFollowedAtOnceAndThoseThatNeverServedLaterAndLater) {
  const auto ms = [](int64_t n) { return absl::Milliseconds(n); };
  StartSpacing spacing(ms(200), ms(1000));
  EXPECT_EQ(spacing.AfterEnd(absl::Hours(1), true), ms(0));
  EXPECT_EQ(spacing.AfterEnd(ms(50), true), ms(150));
  EXPECT_EQ(spacing.AfterEnd(ms(50), true), ms(150));
  EXPECT_EQ(spacing.AfterEnd(ms(0), false), ms(400));
  EXPECT_EQ(spacing.AfterEnd(ms(0), false), ms(800));
  EXPECT_EQ(spacing.AfterEnd(ms(0), false), ms(1000));
  EXPECT_EQ(spacing.AfterEnd(ms(300), false), ms(700));
  EXPECT_EQ(spacing.AfterEnd(ms(300), true), ms(0));
}

}  // namespace
}  // namespace tenure::server
