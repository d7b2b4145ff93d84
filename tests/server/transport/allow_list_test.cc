// Which users may use the daemon.

#include "server/transport/allow_list.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "server/identity/peer.h"

namespace tenure::server {
namespace {

// None of them is root or runs this test.
constexpr uid_t kUser = 47110;
constexpr uid_t kOther = 47111;
constexpr gid_t kGroup = 47112;

// A process of this user and of the group with the same number.
std::shared_ptr<const Peer> PeerOf(uid_t uid) {
  return Peer::Imagined(UniqueFd(), ProcessKey{1, 1}, uid);
}

AllowList Make(const std::vector<std::string>& users, const std::vector<std::string>& groups) {
  absl::StatusOr<AllowList> list = AllowList::Make(users, groups);
  EXPECT_TRUE(list.ok()) << list.status();
  return list.ok() ? *std::move(list) : AllowList();
}

// A child of this process that becomes kOther with the supplementary group kGroup and connects.
class ProcessWithGroup {
 public:
  ProcessWithGroup() {
    listener_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    // A name of the kernel's choice.
    socklen_t length = sizeof(sa_family_t);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    length = sizeof address;
    EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    child_ = fork();
    if (child_ == 0) Connect(address, length);
    connection_.Reset(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  ~ProcessWithGroup() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  ProcessWithGroup(const ProcessWithGroup&) = delete;
  ProcessWithGroup& operator=(const ProcessWithGroup&) = delete;

  absl::StatusOr<std::shared_ptr<const Peer>> peer() const {
    return Peer::OfSocket(connection_.get());
  }

 private:
  [[noreturn]] static void Connect(const sockaddr_un& address, socklen_t length) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = setgroups(1, &kGroup) == 0 && setgid(kOther) == 0 &&
                           setuid(kOther) == 0 &&
                           connect(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0;
    if (connected) pause();
    _exit(1);
  }

  UniqueFd listener_;
  UniqueFd connection_;
  pid_t child_ = -1;
};

TEST(AllowListTest, AnEmptyListAllowsEveryUser) {
  EXPECT_TRUE(AllowList().Check(*PeerOf(kUser)).ok());
  EXPECT_TRUE(Make({}, {}).Check(*PeerOf(kUser)).ok());
}

TEST(AllowListTest, RootAndTheDaemonsOwnUserAreAlwaysAllowed) {
  const AllowList list = Make({std::to_string(kUser)}, {});
  EXPECT_TRUE(list.Check(*PeerOf(0)).ok());
  EXPECT_TRUE(list.Check(*PeerOf(geteuid())).ok());
}

TEST(AllowListTest, AListedUserIsAllowedAndAnotherIsToldWhatItsOperatorCanDo) {
  const AllowList list = Make({std::to_string(kUser)}, {});
  EXPECT_TRUE(list.Check(*PeerOf(kUser)).ok());
  const absl::Status refused = list.Check(*PeerOf(kOther));
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  for (const std::string& words : {std::to_string(kOther), std::string("--allow-user")}) {
    EXPECT_NE(std::string(refused.message()).find(words), std::string::npos) << refused;
  }
}

TEST(AllowListTest, AProcessWhoseGroupIsListedIsAllowed) {
  const AllowList list = Make({}, {std::to_string(kUser)});
  EXPECT_TRUE(list.Check(*PeerOf(kUser)).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(list.Check(*PeerOf(kOther))));
}

TEST(AllowListTest, AMemberOfAListedGroupIsAllowed) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  const ProcessWithGroup process;
  const absl::StatusOr<std::shared_ptr<const Peer>> peer = process.peer();
  ASSERT_TRUE(peer.ok()) << peer.status();
  ASSERT_EQ((*peer)->uid(), kOther);
  EXPECT_TRUE(Make({}, {std::to_string(kGroup)}).Check(**peer).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Make({}, {std::to_string(kGroup + 1)}).Check(**peer)));
}

TEST(AllowListTest, NamesAreLookedUpAndUnknownOnesAreRefusedWithTheFlag) {
  EXPECT_TRUE(AllowList::Make({"root"}, {"root"}).ok());
  const absl::Status no_user = AllowList::Make({"no such user"}, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(no_user));
  EXPECT_NE(std::string(no_user.message()).find("--allow-user no such user"), std::string::npos);
  const absl::Status no_group = AllowList::Make({}, {"no such group"}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(no_group));
  EXPECT_NE(std::string(no_group.message()).find("--allow-group no such group"), std::string::npos);
}

}  // namespace
}  // namespace tenure::server
