// A device has one daemon, and nobody else can keep that one from its place.

#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/check.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

constexpr int kUnavailable = 69;
constexpr int kNoSocket = 73;
constexpr uid_t kStranger = 54321;

// A process that has an abstract socket name, and perhaps listens on it.
class Squatter {
 public:
  Squatter(const std::string& name, uid_t uid, bool listens) {
    int ready[2] = {};
    TENURE_CHECK(pipe(ready) == 0);
    pid_ = fork();
    if (pid_ == 0) Squat(name, uid, listens, ready[1]);
    close(ready[1]);
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1) << "the name could not be taken";
    close(ready[0]);
  }
  ~Squatter() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Squatter(const Squatter&) = delete;
  Squatter& operator=(const Squatter&) = delete;

  pid_t pid() const { return pid_; }

 private:
  // Only system calls: it is the child of a process with threads.
  [[noreturn]] static void Squat(const std::string& name, uid_t uid, bool listens, int ready) {
    if (setgroups(0, nullptr) != 0 || setgid(uid) != 0 || setuid(uid) != 0) _exit(1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0) _exit(2);
    if (listens && listen(fd, 1) != 0) _exit(3);
    if (write(ready, "x", 1) != 1) _exit(4);
    for (;;) pause();
  }

  pid_t pid_ = -1;
};

class ClaimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    TestDaemon daemon;
    name_ = "tenured-" + daemon.GetStats().device_uuid();
  }
  ~ClaimTest() override { std::filesystem::remove_all(folder_); }

  TestDaemon::Options WithLog() const {
    return {.wrapper = {"sh", "-c", "exec \"$@\" 2>>" + folder_ + "/log", "sh"}};
  }
  std::string Log() const {
    std::ifstream file(folder_ + "/log");
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  // The exit code of a daemon of the same device with its socket in `folder`.
  int RunAnother(const TestDaemon& daemon, const std::string& folder) const {
    std::vector<std::string> command = daemon.command();
    for (std::string& word : command) {
      if (word == daemon.socket()) word = folder + "/grpc.sock";
    }
    return WaitForExit(StartProgram(command));
  }

  std::string folder_;
  std::string name_;
};

TEST_F(ClaimTest, AnotherUsersProcessUnderTheNameIsNamedAndStopsNoStart) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  for (const bool listens : {true, false}) {
    const Squatter squatter(name_, kStranger, listens);
    TestDaemon daemon(WithLog());
    EXPECT_EQ(daemon.GetStats().health(), "SERVING");
    const std::string who = listens ? "process " + std::to_string(squatter.pid()) + " of uid 54321"
                                    : "a process that does not answer";
    EXPECT_NE(Log().find(who), std::string::npos) << Log();
    // Nobody can take the lock in the folder.
    EXPECT_EQ(RunAnother(daemon, daemon.folder()), kUnavailable);
  }
}

TEST_F(ClaimTest, ADaemonTakesTheNameWhenItIsFreeAndIsFoundByIt) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  auto squatter = std::make_unique<Squatter>(name_, kStranger, /*listens=*/true);
  TestDaemon daemon(WithLog());
  squatter.reset();
  // Until then another daemon would serve as well, because it has a folder of its own.
  EXPECT_TRUE(Eventually([&] {
    std::ifstream names("/proc/net/unix");
    const std::string all((std::istreambuf_iterator<char>(names)),
                          std::istreambuf_iterator<char>());
    return all.find("@" + name_) != std::string::npos;
  }));
  EXPECT_EQ(RunAnother(daemon, folder_), kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/grpc.sock"));
}

TEST_F(ClaimTest, AFolderInWhichOthersMayWriteIsRefused) {
  TestDaemon daemon(WithLog());
  ASSERT_EQ(daemon.Stop(), 0);
  for (const mode_t mode : {0777u, 0775u, 01777u}) {
    ASSERT_EQ(chmod(folder_.c_str(), mode), 0);
    EXPECT_EQ(RunAnother(daemon, folder_), kNoSocket) << std::oct << mode;
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/grpc.sock"));
  }
  EXPECT_NE(Log().find("chmod go-w " + folder_), std::string::npos) << Log();
  // Neither can one whose parent others may replace be trusted.
  std::filesystem::create_directory(folder_ + "/below");
  ASSERT_EQ(chmod(folder_.c_str(), 0777), 0);
  EXPECT_EQ(RunAnother(daemon, folder_ + "/below"), kNoSocket);
}

}  // namespace
}  // namespace tenure::testing
