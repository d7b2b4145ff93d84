// Which connections the listener hands on, also when the process has no descriptor left.

#include "server/transport/listener.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tenure::server {
namespace {

UniqueFd NewSocket() { return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

// The lowest number that no descriptor has. As the limit of open files, no more can be opened.
rlim_t LowestFreeNumber() {
  const UniqueFd lowest(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return static_cast<rlim_t>(lowest.get());
}

class ListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = "/tmp/listener_test-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  ~ListenerTest() override { std::filesystem::remove_all(folder_); }

  std::string Path() const { return folder_ + "/grpc.sock"; }
  absl::StatusOr<std::unique_ptr<Listener>> Bind() {
    Listener::Options options;
    options.path = Path();
    options.first_bytes_timeout = absl::Minutes(1);
    return Listener::Bind(table_, clock_, std::move(options));
  }
  void Connect(const UniqueFd& client) const {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, Path().c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
  }

  std::string folder_;
  const SystemClock clock_;
  ConnectionTable table_{clock_, {}};
};

TEST_F(ListenerTest, AConnectionIsHandedOnWithItsFirstBytesUnread) {
  absl::StatusOr<std::unique_ptr<Listener>> listener = Bind();
  ASSERT_TRUE(listener.ok()) << listener.status();
  absl::Notification done;
  UniqueFd socket;
  ConnectionTable::Caller caller = absl::UnknownError("");
  (*listener)->Start([&](Listener::Accepted accepted) {
    socket = std::move(accepted.socket);
    caller = std::move(accepted.caller);
    done.Notify();
  });
  const UniqueFd client = NewSocket();
  Connect(client);
  ASSERT_EQ(write(client.get(), "ab", 2), 2);
  ASSERT_TRUE(done.WaitForNotificationWithTimeout(absl::Seconds(20)));
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ((*caller)->pid(), getpid());
  char bytes[8];
  EXPECT_EQ(recv(socket.get(), bytes, sizeof bytes, MSG_DONTWAIT), 2);
}

TEST_F(ListenerTest, AStaleSocketFileIsReplacedAndNothingElse) {
  {
    const UniqueFd dead = NewSocket();
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, Path().c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  {
    absl::StatusOr<std::unique_ptr<Listener>> listener = Bind();
    ASSERT_TRUE(listener.ok()) << listener.status();
    struct stat info = {};
    ASSERT_EQ(stat(Path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660u);
    EXPECT_TRUE(absl::IsAlreadyExists(Bind().status())) << "a process listens there";
  }
  EXPECT_FALSE(std::filesystem::exists(Path())) << "a listener that ends takes its file along";
  const UniqueFd file(open(Path().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  EXPECT_TRUE(absl::IsAlreadyExists(Bind().status()));
  EXPECT_TRUE(std::filesystem::exists(Path()))
      << "it is not a socket, so the daemon does not remove it";
}

// Whether a process listens on this socket file.
bool Listens(const std::string& path) {
  const UniqueFd probe = NewSocket();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

TEST_F(ListenerTest, AListenerThatEndsLeavesTheSocketFileOfItsSuccessor) {
  absl::StatusOr<std::unique_ptr<Listener>> first = Bind();
  ASSERT_TRUE(first.ok()) << first.status();
  std::filesystem::remove(Path());
  absl::StatusOr<std::unique_ptr<Listener>> second = Bind();
  ASSERT_TRUE(second.ok()) << second.status();
  first->reset();
  EXPECT_TRUE(Listens(Path()));
}

TEST_F(ListenerTest, ASocketFileThatWasRemovedWithItsFolderIsMadeAgain) {
  absl::StatusOr<std::unique_ptr<Listener>> listener = Bind();
  ASSERT_TRUE(listener.ok()) << listener.status();
  absl::Notification accepted;
  (*listener)->Start([&](Listener::Accepted) { accepted.Notify(); });
  std::filesystem::remove_all(folder_);
  // The listener looks for its file by a clock of its own, and there is nothing to wait on.
  for (int i = 0; i < 2'000 && !Listens(Path()); ++i) absl::SleepFor(absl::Milliseconds(10));
  const UniqueFd client = NewSocket();
  Connect(client);
  ASSERT_EQ(write(client.get(), "ab", 2), 2);
  EXPECT_TRUE(accepted.WaitForNotificationWithTimeout(absl::Seconds(20)));
  listener->reset();
  EXPECT_FALSE(std::filesystem::exists(Path()));
}

TEST_F(ListenerTest, WithoutDescriptorsEachCallerIsTurnedAwayAndNoneIsLeftWaiting) {
  if (std::string(TENURE_SANITIZE).find("undefined") != std::string::npos) {
    GTEST_SKIP() << "the sanitizer reads objects through a pipe, and here it could open none";
  }
  absl::StatusOr<std::unique_ptr<Listener>> listener = Bind();
  ASSERT_TRUE(listener.ok()) << listener.status();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(NewSocket());
    Connect(clients.back());
  }
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none_left = {LowestFreeNumber(), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none_left), 0);
  (*listener)->Start([](Listener::Accepted) {});
  for (const UniqueFd& client : clients) {
    pollfd entry = {client.get(), POLLIN, 0};
    EXPECT_EQ(poll(&entry, 1, /*timeout_ms=*/5'000), 1) << "it is still open";
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace tenure::server
