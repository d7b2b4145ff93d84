// Which error stands for which way of not reaching a daemon.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "client/client.h"
#include "client/session/channel.h"
#include "tests/client/fake_daemon.h"

namespace tenure::testing {
namespace {

class Socket : public ::testing::Test {
 protected:
  Socket() { EXPECT_NE(mkdtemp(folder_.data()), nullptr); }
  ~Socket() override { std::filesystem::remove_all(folder_); }

  // A socket that was bound and whose owner is gone.
  std::string StaleSocket() const {
    const std::string path = folder_ + "/stale";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    close(fd);
    return path;
  }

  std::string folder_ = "/tmp/tenure-test-XXXXXX";
};

TEST_F(Socket, MissingOneIsNotFoundAndSaysHowToStartTheDaemon) {
  const absl::Status status = CheckSocket(folder_ + "/none");
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_NE(status.message().find("`tenured`"), absl::string_view::npos);
  EXPECT_TRUE(absl::IsNotFound(CheckSocket(folder_ + "/no/folder")));
}

TEST_F(Socket, OneThatNobodyListensOnIsUnavailable) {
  EXPECT_TRUE(absl::IsUnavailable(CheckSocket(StaleSocket())));
}

TEST_F(Socket, OneThatCannotBeASocketIsTheCallersMistake) {
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket("")));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket("/" + std::string(107, 'x'))));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket(folder_)));
}

TEST_F(Socket, OneBehindAClosedDoorIsPermissionDenied) {
  const std::string path = StaleSocket();
  ASSERT_EQ(chmod(folder_.c_str(), 0), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Doors are not closed to root.
    if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
    _exit(absl::IsPermissionDenied(CheckSocket(path)) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(Socket, ConnectFailsAtOnceWithTheSameErrors) {
  EXPECT_TRUE(absl::IsNotFound(Client::Connect({.socket = folder_ + "/none"}).status()));
  EXPECT_TRUE(absl::IsUnavailable(Client::Connect({.socket = StaleSocket()}).status()));
}

TEST_F(Socket, PathMayHoldAnyCharacter) {
  FakeDaemon daemon;
  const std::string odd = folder_ + "/a b%20c?#ü";
  ASSERT_EQ(symlink(daemon.socket().c_str(), odd.c_str()), 0);
  const absl::StatusOr<Client> client = Client::Connect({.socket = odd, .map = false});
  EXPECT_TRUE(client.ok()) << client.status();
}

}  // namespace
}  // namespace tenure::testing
