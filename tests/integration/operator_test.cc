// An operator's settings and commands: the users who may lease and administer, and the Admin
// service.

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "common/check.h"
#include "tenure/v1/admin.grpc.pb.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_http2.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

constexpr uid_t kStranger = 54321;
constexpr gid_t kTheirGroup = 54322;
constexpr gid_t kAnotherOfTheirs = 54323;

// A process of another user that makes calls. It is forked before this process has a daemon, and
// with it gRPC's threads: a child of a process with threads may find a lock held for ever, that of
// the address sanitizer's allocator for example.
class Stranger {
 public:
  Stranger() {
    TENURE_CHECK(pipe2(requests_, O_CLOEXEC) == 0 && pipe2(answers_, O_CLOEXEC) == 0);
    child_ = fork();
    if (child_ == 0) Serve();
    close(requests_[0]);
    close(answers_[1]);
  }
  // The child ends when it reads the end of the requests.
  ~Stranger() {
    close(requests_[1]);
    close(answers_[0]);
    WaitForExit(child_);
  }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  // The bytes of the daemon's answer to a call without a message.
  std::string Call(const TestDaemon& daemon, const std::string& path) {
    // By default other users may not enter the test's folder, nor use the socket.
    EXPECT_EQ(chmod(daemon.folder().c_str(), 0755), 0);
    EXPECT_EQ(chmod(daemon.socket().c_str(), 0666), 0);
    Write(requests_[1], daemon.socket());
    Write(requests_[1], path);
    std::string answer;
    EXPECT_TRUE(Read(answers_[0], &answer)) << "the other user's process has ended";
    return answer;
  }

 private:
  [[noreturn]] void Serve() {
    close(requests_[1]);
    close(answers_[0]);
    const gid_t groups[] = {kAnotherOfTheirs};
    if (setgroups(1, groups) != 0 || setgid(kTheirGroup) != 0 || setuid(kStranger) != 0) _exit(1);
    std::string socket;
    std::string path;
    while (Read(requests_[0], &socket) && Read(requests_[0], &path)) {
      http2::Connection connection(socket);
      connection.Send(http2::Opening() + http2::Call(1, path, ""));
      std::string answer;
      bool closed = false;
      Eventually([&] {
        answer += connection.Receive(&closed);
        return closed || answer.find("grpc-status") != std::string::npos;
      });
      Write(answers_[1], answer);
    }
    _exit(0);
  }

  // One string in a pipe: its length, then its bytes.
  static void Write(int fd, const std::string& text) {
    const uint32_t length = static_cast<uint32_t>(text.size());
    EXPECT_EQ(write(fd, &length, sizeof length), static_cast<ssize_t>(sizeof length));
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  static bool Read(int fd, std::string* text) {
    uint32_t length = 0;
    if (read(fd, &length, sizeof length) != static_cast<ssize_t>(sizeof length)) return false;
    text->assign(length, '\0');
    for (size_t at = 0; at < text->size();) {
      const ssize_t got = read(fd, text->data() + at, text->size() - at);
      if (got <= 0) return false;
      at += static_cast<size_t>(got);
    }
    return true;
  }

  int requests_[2] = {};
  int answers_[2] = {};
  pid_t child_ = -1;
};

TEST(AllowListTest, OnlyListedUsersAndMembersOfListedGroupsAreServed) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  Stranger stranger;
  const std::string refused = "may not use this daemon";
  const auto answer = [&stranger](const std::vector<std::string>& flags) {
    TestDaemon daemon(TestDaemon::Options{.flags = flags});
    return stranger.Call(daemon, "/tenure.v1.Stats/Ping");
  };
  EXPECT_EQ(answer({}).find(refused), std::string::npos) << "without a list every user is served";
  EXPECT_NE(answer({"--allow-user", "1,2"}).find(refused), std::string::npos);
  EXPECT_EQ(answer({"--allow-user", "1,54321"}).find(refused), std::string::npos);
  EXPECT_EQ(answer({"--allow-group", "54322"}).find(refused), std::string::npos);
  EXPECT_EQ(answer({"--allow-group", "54323"}).find(refused), std::string::npos);
  EXPECT_NE(answer({"--allow-group", "54324"}).find(refused), std::string::npos);
}

TEST(AllowListTest, TheDaemonsOwnUserIsAlwaysServed) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--allow-user", "1"}});
  RawSession session(daemon.allocator());
  EXPECT_TRUE(session.Allocate(100).ok());
}

class AdminTest : public ::testing::Test {
 protected:
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&,
                                                            Response*),
                    const Request& request, Response* response) {
    const auto stub = v1::Admin::NewStub(daemon_.NewChannel());
    grpc::ClientContext context;
    return (stub.get()->*method)(&context, request, response);
  }

  Stranger stranger_;  // before the daemon
  TestDaemon daemon_;
};

TEST_F(AdminTest, OnlyRootAndTheDaemonsUserMayAdminister) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  for (const char* method : {"Trim", "Revoke", "Drain"}) {
    EXPECT_NE(stranger_.Call(daemon_, std::string("/tenure.v1.Admin/") + method)
                  .find("may not administer"),
              std::string::npos)
        << method;
  }
  EXPECT_EQ(daemon_.GetStats().health(), "SERVING");
  RawSession session(daemon_.allocator());
  EXPECT_TRUE(session.Allocate(100).ok()) << "the stranger's Drain had an effect";
}

TEST_F(AdminTest, TrimGivesIdleMemoryBackToTheDriver) {
  const uint64_t warm = daemon_.GetStats().warm_bytes();
  ASSERT_GT(warm, 0u);
  v1::TrimResponse response;
  ASSERT_TRUE(Call(&v1::Admin::Stub::Trim, v1::TrimRequest(), &response).ok());
  EXPECT_EQ(response.freed_bytes(), warm);
  EXPECT_EQ(daemon_.GetStats().reserved_bytes(), 0u);
}

TEST_F(AdminTest, RevokeKillsTheSessionsProcessAndItsMemoryComesBack) {
  LeaseClientProcess client({"hold", daemon_.socket(), std::to_string(MiB(3).value())});
  ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
  v1::RevokeRequest request;
  request.set_session_id(daemon_.ListSessions().sessions(0).session_id());
  v1::RevokeResponse response;
  ASSERT_TRUE(Call(&v1::Admin::Stub::Revoke, request, &response).ok());
  EXPECT_EQ(response.pid(), static_cast<uint32_t>(client.pid()));
  EXPECT_EQ(client.WaitForEnd(), 128 + SIGKILL);
  EXPECT_TRUE(Eventually([&] {
    const v1::GetStatsResponse stats = daemon_.GetStats();
    return stats.leased_bytes() == 0 && stats.quarantined_bytes() == 0;
  }));
  EXPECT_EQ(Call(&v1::Admin::Stub::Revoke, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(AdminTest, ADrainingDaemonServesOpenSessionsAndEndsWithTheLast) {
  RawSession session(daemon_.allocator());
  v1::Token token;
  ASSERT_TRUE(session.Allocate(100, &token).ok());
  v1::DrainResponse response;
  ASSERT_TRUE(Call(&v1::Admin::Stub::Drain, v1::DrainRequest(), &response).ok());
  EXPECT_EQ(response.sessions(), 1u);
  EXPECT_EQ(session.Allocate(100).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(session.KeepAlive().ok());
  EXPECT_TRUE(session.Free(token.allocation_id()).ok());
  EXPECT_TRUE(session.Close().ok());
  EXPECT_EQ(daemon_.WaitForEnd(), 0);
}

// A socket at which an MPS control daemon would listen.
class ControlSocket {
 public:
  explicit ControlSocket(const std::string& folder) : path_(folder + "/control") {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(fd_, 5), 0);
  }
  ~ControlSocket() { close(fd_); }

 private:
  const std::string path_;
  const int fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
};

TEST(MpsTest, ADaemonDoesNotServeBesideMpsUnlessItIsAllowedTo) {
  if (OnRealDevice()) GTEST_SKIP() << "the driver would talk to the control daemon that is none";
  std::string folder;
  {
    TestDaemon first;
    folder = first.folder() + "-mps";
  }
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  const std::string variable = "CUDA_MPS_PIPE_DIRECTORY=" + folder;
  const std::vector<std::string> command = {ProgramFolder() + "/tenured",
                                            "--driver",
                                            "emulated",
                                            "--socket",
                                            folder + "/grpc.sock",
                                            "--http",
                                            "off",
                                            "--log-level",
                                            "off"};
  {
    const ControlSocket control(folder);
    EXPECT_EQ(WaitForExit(StartProgram(command, {variable})), 69);
    EXPECT_FALSE(std::filesystem::exists(folder + "/grpc.sock"));
    TestDaemon allowed(TestDaemon::Options{.flags = {"--allow-mps"}, .environment = {variable}});
    RawSession session(allowed.allocator());
    EXPECT_TRUE(session.Allocate(100).ok());
  }
  // The pipe that a killed control daemon leaves behind does not prevent a start.
  ASSERT_TRUE(std::filesystem::exists(folder + "/control"));
  TestDaemon after(TestDaemon::Options{.environment = {variable}});
  EXPECT_EQ(after.GetStats().health(), "SERVING");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tenure::testing
