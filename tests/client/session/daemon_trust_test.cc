// Which listeners a client takes for the daemon.
#include "client/session/daemon_trust.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "client/session/socket_probe.h"
#include "common/unique_fd.h"

namespace tenure {
namespace {

constexpr uid_t kStranger = 54321;

class DaemonTrustTest : public ::testing::Test {
 protected:
  void SetUp() override {
    unsetenv("TENURE_DAEMON_UID");
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    Listen(path_ = folder_ + "/grpc.sock");
  }
  void TearDown() override {
    unsetenv("TENURE_DAEMON_UID");
    std::filesystem::remove_all(folder_);
  }

  void Listen(const std::string& path) {
    listener_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(listen(listener_.get(), 16), 0);
  }
  absl::Status Check(uid_t listener, std::optional<uid_t> named = std::nullopt) {
    return CheckListener(path_, listener, named);
  }

  std::string folder_ = "/tmp/tenure-trust-XXXXXX";
  std::string path_;
  UniqueFd listener_;
};

TEST_F(DaemonTrustTest, RootAndThisUserAreTrustedInAFolderOfTheirs) {
  EXPECT_TRUE(CheckSocket(path_).ok()) << CheckSocket(path_);
  EXPECT_TRUE(Check(geteuid()).ok());
  EXPECT_TRUE(Check(0).ok());
}

TEST_F(DaemonTrustTest, AnotherUsersProcessIsNot) {
  const absl::Status refused = Check(kStranger);
  EXPECT_TRUE(absl::IsPermissionDenied(refused)) << refused;
  EXPECT_NE(refused.message().find("TENURE_DAEMON_UID=54321"), std::string::npos) << refused;
}

TEST_F(DaemonTrustTest, AFolderThatAnotherUserMadeInTmpTrustsNobody) {
  if (geteuid() != 0) GTEST_SKIP() << "giving a folder away needs root";
  ASSERT_EQ(chown(folder_.c_str(), kStranger, static_cast<gid_t>(-1)), 0);
  // Its owner is the owner of the socket's folder, but everybody may write in /tmp above.
  EXPECT_TRUE(absl::IsPermissionDenied(Check(kStranger)));
  EXPECT_TRUE(absl::IsPermissionDenied(Check(0))) << "the owner could replace root's socket";
  EXPECT_TRUE(absl::IsPermissionDenied(CheckSocket(path_)));
}

TEST_F(DaemonTrustTest, TheOwnerOfAFolderBelowRootsIsTrusted) {
  if (geteuid() != 0) GTEST_SKIP() << "giving a folder away needs root";
  std::filesystem::remove_all(folder_);
  folder_ = "/run/tenure-trust-test";
  std::filesystem::create_directories(folder_ + "/0");
  Listen(path_ = folder_ + "/0/grpc.sock");
  ASSERT_EQ(chown((folder_ + "/0").c_str(), kStranger, static_cast<gid_t>(-1)), 0);
  EXPECT_TRUE(Check(kStranger).ok()) << Check(kStranger);
  EXPECT_TRUE(Check(0).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Check(kStranger + 1)));
  // Never by the group, nor with a writable folder anywhere above.
  for (const std::string& open : {folder_ + "/0", folder_}) {
    ASSERT_EQ(chmod(open.c_str(), 0775), 0);
    EXPECT_TRUE(absl::IsPermissionDenied(Check(kStranger))) << open;
    ASSERT_EQ(chmod(open.c_str(), 0755), 0);
  }
  EXPECT_TRUE(Check(kStranger).ok());
}

TEST_F(DaemonTrustTest, AFolderThatOthersMayWriteTrustsNobody) {
  for (const mode_t mode : {0770u, 0707u}) {
    ASSERT_EQ(chmod(folder_.c_str(), mode), 0);
    EXPECT_TRUE(absl::IsPermissionDenied(CheckSocket(path_))) << mode;
  }
}

TEST_F(DaemonTrustTest, ALinkInAFolderOfOthersIsNoWayAround) {
  const std::string open = folder_ + "/open";
  std::filesystem::create_directory(open);
  std::filesystem::create_symlink(path_, open + "/link");
  EXPECT_TRUE(CheckSocket(open + "/link").ok());
  ASSERT_EQ(chmod(open.c_str(), 0777), 0);
  EXPECT_TRUE(absl::IsPermissionDenied(CheckSocket(open + "/link")));
}

TEST_F(DaemonTrustTest, TheNamedUserAloneIsTrusted) {
  ASSERT_EQ(chmod(folder_.c_str(), 0777), 0);
  EXPECT_TRUE(Check(kStranger, kStranger).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Check(geteuid(), kStranger)));
  setenv("TENURE_DAEMON_UID", std::to_string(geteuid()).c_str(), 1);
  EXPECT_TRUE(CheckSocket(path_).ok());
  setenv("TENURE_DAEMON_UID", "54321", 1);
  EXPECT_TRUE(absl::IsPermissionDenied(CheckSocket(path_)));
  EXPECT_TRUE(CheckSocket(path_, geteuid()).ok()) << "the option comes first";
  setenv("TENURE_DAEMON_UID", "me", 1);
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSocket(path_)));
}

}  // namespace
}  // namespace tenure
