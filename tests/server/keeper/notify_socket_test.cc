// The messages that the keeper reads on the socket of sd_notify(3).

#include "server/keeper/notify_socket.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <systemd/sd-daemon.h>

#include "common/unique_fd.h"

namespace tenure::server {
namespace {

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
  const UniqueFd memory(memfd_create("notify_socket_test", MFD_CLOEXEC));
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

}  // namespace
}  // namespace tenure::server
