// Ending processes of other users: with CAP_KILL, as the shipped unit runs the daemon, and without.

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/check.h"
#include "tenure/v1/admin.grpc.pb.h"
#include "tests/support/raw_http2.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

constexpr uid_t kStranger = 54321;

// A process of another user that opens two sessions and then hangs. It is forked before this
// process has gRPC's threads.
class HungStranger {
 public:
  HungStranger() {
    TENURE_CHECK(pipe2(socket_path_, O_CLOEXEC) == 0);
    child_ = fork();
    if (child_ == 0) Hang();
    close(socket_path_[0]);
  }
  ~HungStranger() {
    close(socket_path_[1]);
    if (ended_) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  HungStranger(const HungStranger&) = delete;
  HungStranger& operator=(const HungStranger&) = delete;

  void Open(TestDaemon& daemon) {
    // By default other users may not enter the test's folder, nor use the socket.
    EXPECT_EQ(chmod(daemon.folder().c_str(), 0755), 0);
    EXPECT_EQ(chmod(daemon.socket().c_str(), 0666), 0);
    const std::string path = daemon.socket();
    EXPECT_EQ(write(socket_path_[1], path.data(), path.size()), static_cast<ssize_t>(path.size()));
    EXPECT_TRUE(Eventually([&] { return daemon.ListSessions().sessions_size() == 2; }));
  }
  pid_t pid() const { return child_; }
  // Whether SIGKILL has ended it, by the daemon or nobody.
  bool WasKilled() {
    int status = 0;
    if (!ended_ && waitpid(child_, &status, WNOHANG) == child_) ended_ = WTERMSIG(status);
    return ended_ == SIGKILL;
  }

 private:
  [[noreturn]] void Hang() {
    close(socket_path_[1]);
    if (setgroups(0, nullptr) != 0 || setgid(kStranger) != 0 || setuid(kStranger) != 0) _exit(1);
    char path[256] = {};
    if (read(socket_path_[0], path, sizeof path - 1) <= 0) _exit(2);
    http2::Connection connection(path);
    connection.Send(http2::Opening());
    // OpenSessionRequest{request_id: 1, name: "a"}, and the same with 2.
    connection.Send(http2::Call(1, "/tenure.v1.Allocator/OpenSession", "\x08\x01\x12\x01\x61"));
    connection.Send(http2::Call(3, "/tenure.v1.Allocator/OpenSession", "\x08\x02\x12\x01\x61"));
    for (;;) pause();
  }

  int socket_path_[2] = {};
  pid_t child_ = -1;
  std::optional<int> ended_;
};

class KillPermissionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
    std::string folder = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    stranger_ = std::make_unique<HungStranger>();
  }
  ~KillPermissionTest() override { std::filesystem::remove_all(folder_); }

  // A daemon that has of all capabilities only this one, or all but this one.
  TestDaemon::Options With(const std::string& capabilities, std::vector<std::string> flags) const {
    return {.flags = std::move(flags),
            .wrapper = {"setpriv", "--inh-caps=" + capabilities, "--bounding-set=" + capabilities,
                        "sh", "-c", "exec \"$@\" 2>>" + folder_ + "/log", "sh"}};
  }
  // How many lines of the log have these words.
  size_t CountInLog(const std::string& words) const {
    std::ifstream log(folder_ + "/log");
    size_t count = 0;
    for (std::string line; std::getline(log, line);) {
      if (line.find(words) != std::string::npos) ++count;
    }
    return count;
  }
  static grpc::Status Revoke(TestDaemon& daemon) {
    const auto stub = v1::Admin::NewStub(daemon.NewChannel());
    grpc::ClientContext context;
    v1::RevokeRequest request;
    request.set_session_id(daemon.ListSessions().sessions(0).session_id());
    v1::RevokeResponse response;
    return stub->Revoke(&context, request, &response);
  }

  std::string folder_;
  std::unique_ptr<HungStranger> stranger_;  // before any daemon
};

constexpr char kOnlyKill[] = "-all,+kill";
constexpr char kAllButKill[] = "-kill";

TEST_F(KillPermissionTest, WithTheCapabilityARevokeEndsAnotherUsersProcess) {
  TestDaemon daemon(With(kOnlyKill, {}));
  stranger_->Open(daemon);
  const grpc::Status status = Revoke(daemon);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(Eventually([&] { return stranger_->WasKilled(); }));
}

TEST_F(KillPermissionTest, WithoutTheCapabilityARevokeSaysWhatWouldHelp) {
  TestDaemon daemon(With(kAllButKill, {}));
  stranger_->Open(daemon);
  const grpc::Status status = Revoke(daemon);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_NE(status.error_message().find("CAP_KILL"), std::string::npos) << status.error_message();
  EXPECT_NE(status.error_message().find("kill -KILL " + std::to_string(stranger_->pid())),
            std::string::npos)
      << status.error_message();
  EXPECT_FALSE(stranger_->WasKilled());
}

const std::vector<std::string> kKillSoon = {"--hung-client", "kill",         "--lease-ttl",
                                            "100ms",         "--hung-grace", "100ms"};

TEST_F(KillPermissionTest, AHungProcessIsKilledAndTheLogSaysSoOnce) {
  TestDaemon daemon(With(kOnlyKill, kKillSoon));
  stranger_->Open(daemon);
  EXPECT_TRUE(Eventually([&] { return stranger_->WasKilled(); }));
  EXPECT_TRUE(Eventually([&] { return CountInLog("was killed") > 0; }));
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_EQ(CountInLog("was killed"), 1u);
}

TEST_F(KillPermissionTest, AHungProcessThatCannotBeKilledIsLoggedOnceAndNotCalledKilled) {
  TestDaemon daemon(With(kAllButKill, kKillSoon));
  stranger_->Open(daemon);
  EXPECT_TRUE(Eventually([&] { return CountInLog("still runs") > 0; }));
  EXPECT_FALSE(stranger_->WasKilled());
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_EQ(CountInLog("still runs"), 1u);
  EXPECT_EQ(CountInLog("was killed"), 0u);
}

}  // namespace
}  // namespace tenure::testing
