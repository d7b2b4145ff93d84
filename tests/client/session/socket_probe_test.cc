// Each reason why a daemon cannot be reached has its own error.
#include "client/session/socket_probe.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

#include "tests/client/socket_folder.h"

namespace tenure::testing {
namespace {

class SocketProbe : public ::testing::Test, protected SocketFolder {};

TEST_F(SocketProbe, MissingOneIsNotFoundAndSaysHowToStartTheDaemon) {
  const absl::Status status = CheckSocket(folder_ + "/none");
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_NE(status.message().find("`tenured`"), absl::string_view::npos);
  EXPECT_TRUE(absl::IsNotFound(CheckSocket(folder_ + "/no/folder")));
}

TEST_F(SocketProbe, ASocketWithoutListenerIsUnavailable) {
  EXPECT_TRUE(absl::IsUnavailable(CheckSocket(StaleSocket())));
}

TEST_F(SocketProbe, OneThatCannotBeASocketIsTheCallersMistake) {
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket("")));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket("/" + std::string(107, 'x'))));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket(folder_)));
}

TEST_F(SocketProbe, OneInAFolderWithoutAccessIsPermissionDenied) {
  const std::string path = StaleSocket();
  ASSERT_EQ(chmod(folder_.c_str(), 0), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Root may open every folder.
    if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
    _exit(absl::IsPermissionDenied(CheckSocket(path)) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace tenure::testing
