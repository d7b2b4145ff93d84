// The daemon as a process among others: its standard files, its log, and signals.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "common/unique_fd.h"
#include "tenure/v1/admin.grpc.pb.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

// Runs a program through the shell, with these redirections.
std::vector<std::string> Redirected(const std::string& how) {
  return {"sh", "-c", "exec \"$@\" " + how, "sh"};
}

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  ~ProcessTest() override { std::filesystem::remove_all(folder_); }

  std::string log_path() const { return folder_ + "/log"; }
  std::string Log() const {
    std::ifstream file(log_path());
    return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  bool AwaitInLog(const std::string& words) const {
    return Eventually([&] { return Log().find(words) != std::string::npos; });
  }
  // The log goes to log_path().
  TestDaemon::Options WithLog(std::vector<std::string> flags) const {
    return {.flags = std::move(flags), .wrapper = Redirected("2>>" + log_path())};
  }

  std::string folder_;
};

TEST_F(ProcessTest, ADaemonThatIsStartedWithoutStandardFilesKeepsItsLogOutOfItsMemory) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--log-level", "debug"},
                                        .wrapper = Redirected("0<&- 1>&- 2>&-")});
  for (const int fd : {0, 1, 2}) {
    const std::string link = "/proc/" + std::to_string(daemon.pid()) + "/fd/" + std::to_string(fd);
    EXPECT_EQ(std::filesystem::read_symlink(link), "/dev/null") << fd;
  }
  RawSession session(daemon.allocator());
  ASSERT_TRUE(session.Allocate(MiB(5).value()).ok());
  EXPECT_EQ(daemon.Stop(), 0);
}

TEST_F(ProcessTest, ADaemonWhoseLogNobodyReadsReclaimsTheDeadAndStopsWhenAsked) {
  ASSERT_EQ(mkfifo(log_path().c_str(), 0600), 0);
  const UniqueFd reader(open(log_path().c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const UniqueFd writer(open(log_path().c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  TestDaemon daemon(WithLog({"--log-level", "debug"}));
  std::array<char, 4096> block = {};
  while (write(writer.get(), block.data(), block.size()) > 0) {
  }
  while (write(writer.get(), block.data(), 1) > 0) {
  }
  LeaseClientProcess client({"hold", daemon.socket(), "5000000"});
  ASSERT_NE(client.ReadLine(), "");
  client.Kill();
  // Its end is a line in the log, too.
  EXPECT_TRUE(Eventually([&] {
    const v1::GetStatsResponse stats = daemon.GetStats();
    return stats.active_sessions() == 0 && stats.quarantined_bytes() == 0;
  }));
  // Somebody reads again: the next line comes, and before it the number of those that are missing.
  std::string read_again;
  ASSERT_TRUE(Eventually([&] {
    const ssize_t count = read(reader.get(), block.data(), block.size());
    if (count > 0) read_again.append(block.data(), static_cast<size_t>(count));
    kill(daemon.pid(), SIGUSR1);
    return read_again.find("SIGUSR1") != std::string::npos;
  }));
  EXPECT_NE(read_again.find("of this log were dropped"), std::string::npos);
  while (write(writer.get(), block.data(), block.size()) > 0) {
  }
  EXPECT_EQ(daemon.Stop(), 0);
}

TEST_F(ProcessTest, TheLogSaysWhoCameWhatWasRefusedAndWhatAnOperatorAskedFor) {
  TestDaemon daemon(WithLog({"--log-level", "debug", "--max-tenant-connections", "4",
                             "--max-tenant-bytes", "64MiB", "--http", "127.0.0.1:0"}));
  EXPECT_TRUE(AwaitInLog("metrics at http://127.0.0.1:")) << Log();
  const std::string who =
      "process " + std::to_string(getpid()) + " of uid:" + std::to_string(getuid());
  RawSession session(daemon.allocator());
  EXPECT_TRUE(AwaitInLog(who + " (")) << Log();
  EXPECT_TRUE(AwaitInLog("opened session " + std::to_string(session.id()))) << Log();
  EXPECT_FALSE(session.Allocate(MiB(100).value()).ok());
  EXPECT_TRUE(AwaitInLog("[warning] refused " + who + ": RESOURCE_EXHAUSTED")) << Log();
  v1::Token token;
  ASSERT_TRUE(session.Allocate(100, &token).ok());
  ASSERT_TRUE(session.Free(token.allocation_id()).ok());
  EXPECT_FALSE(session.Free(token.allocation_id()).ok());
  EXPECT_TRUE(AwaitInLog("[debug] refused " + who + ": NOT_FOUND")) << Log();
  const auto admin = v1::Admin::NewStub(daemon.NewChannel());
  grpc::ClientContext context;
  v1::TrimResponse response;
  ASSERT_TRUE(admin->Trim(&context, {}, &response).ok());
  EXPECT_TRUE(AwaitInLog(who + " asked for: trim")) << Log();
  ASSERT_TRUE(session.Close().ok());
  EXPECT_TRUE(AwaitInLog("closed session " + std::to_string(session.id()))) << Log();
  std::vector<UniqueFd> many;
  for (int i = 0; i < 5; ++i) {
    many.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    daemon.socket().copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(
        connect(many.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_TRUE(AwaitInLog("turned a connection of uid:")) << Log();
}

TEST_F(ProcessTest, LinesForTheJournalBeginWithTheirPriority) {
  const UniqueFd log(open(log_path().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  struct stat info = {};
  ASSERT_EQ(fstat(log.get(), &info), 0);
  TestDaemon::Options options = WithLog({"--log-level", "info"});
  options.environment = {"JOURNAL_STREAM=" + std::to_string(info.st_dev) + ":" +
                         std::to_string(info.st_ino)};
  TestDaemon daemon(options);
  EXPECT_TRUE(AwaitInLog("<6>serving ")) << Log();
  ASSERT_EQ(kill(daemon.pid(), SIGUSR1), 0);
  EXPECT_TRUE(AwaitInLog("<4>SIGUSR1 has no meaning")) << Log();
}

// Receives what a daemon tells its supervisor.
class Supervisor {
 public:
  explicit Supervisor(const std::string& path)
      : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), path_(path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  // Whether a message with these words comes within this time.
  bool Hears(const std::string& words, int milliseconds) const {
    pollfd entry = {fd_.get(), POLLIN, 0};
    while (poll(&entry, 1, milliseconds) == 1) {
      char message[4096] = {};
      if (recv(fd_.get(), message, sizeof message - 1, 0) < 0) return false;
      if (std::string(message).find(words) != std::string::npos) return true;
    }
    return false;
  }
  // A daemon that must report within 300 ms each time.
  pid_t Start(const std::string& folder, std::vector<std::string> environment) const {
    environment.push_back("NOTIFY_SOCKET=" + path_);
    environment.emplace_back("WATCHDOG_USEC=300000");
    // A device of its own: another test's daemon may have the usual one.
    environment.push_back("TENURE_EMULATED_DIR=" + folder + "/card");
    return StartProgram(
        {ProgramFolder() + "/tenured", "--driver", "emulated", "--http", "off", "--emulated-memory",
         "1GiB", "--warm-reserve", "0", "--socket", folder + "/grpc.sock"},
        environment);
  }

 private:
  const UniqueFd fd_;
  const std::string path_;
};

constexpr int kLong = 20'000;

TEST_F(ProcessTest, TheSupervisorHearsHowTheDaemonIsAndThatItIsWell) {
  if (OnRealDevice()) GTEST_SKIP() << "the size of the device is that of the emulated one";
  const Supervisor supervisor(folder_ + "/notify");
  const pid_t daemon = supervisor.Start(folder_, {});
  EXPECT_TRUE(supervisor.Hears("READY=1", kLong));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(supervisor.Hears("WATCHDOG=1", kLong));
  EXPECT_TRUE(
      supervisor.Hears("STATUS=serving: 0 B leased, 0 B warm, 0 B quarantined of 1 GiB", kLong));
  kill(daemon, SIGTERM);
  EXPECT_TRUE(supervisor.Hears("STOPPING=1", kLong));
  EXPECT_EQ(WaitForExit(daemon), 0);
}

TEST_F(ProcessTest, TheSupervisorHearsNothingOfADaemonWhoseDriverDoesNotAnswer) {
  if (OnRealDevice()) GTEST_SKIP() << "a real driver cannot be told to hang";
  const Supervisor supervisor(folder_ + "/notify");
  const pid_t daemon =
      supervisor.Start(folder_, {"TENURE_EMULATED_FAULTS=cuMemGetInfo_v2:delay=3600000000"});
  EXPECT_TRUE(supervisor.Hears("READY=1", kLong));
  // Time is the point: three times what the supervisor waits.
  EXPECT_FALSE(supervisor.Hears("WATCHDOG=1", 900));
  kill(daemon, SIGKILL);
  WaitForExit(daemon);
}

TEST_F(ProcessTest, SignalsWithoutAMeaningAreNamedInTheLogAndEndNothing) {
  TestDaemon daemon(WithLog({"--log-level", "info"}));
  for (const auto& [signal, name] : std::vector<std::pair<int, std::string>>{
           {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGALRM, "SIGALRM"}, {SIGPWR, "SIGPWR"}}) {
    ASSERT_EQ(kill(daemon.pid(), signal), 0);
    EXPECT_TRUE(AwaitInLog(name)) << Log();
  }
  EXPECT_EQ(daemon.GetStats().health(), "SERVING");
  ASSERT_EQ(kill(daemon.pid(), SIGQUIT), 0);
  EXPECT_EQ(daemon.WaitForEnd(), 0);
  EXPECT_NE(Log().find("stopping on SIGQUIT"), std::string::npos) << Log();
}

TEST_F(ProcessTest, SighupReadsTheConfigurationAgain) {
  const std::string config = folder_ + "/tenured.conf";
  std::ofstream(config) << "log-level=info\n";
  TestDaemon daemon(WithLog({"--config", config}));
  std::ofstream(config) << "log-level=loud\n";
  ASSERT_EQ(kill(daemon.pid(), SIGHUP), 0);
  EXPECT_TRUE(AwaitInLog("the configuration is wrong")) << Log();
  std::ofstream(config) << "log-level=debug\n";
  ASSERT_EQ(kill(daemon.pid(), SIGHUP), 0);
  EXPECT_TRUE(AwaitInLog("--log-level is debug")) << Log();
  EXPECT_EQ(daemon.GetStats().health(), "SERVING");
}

}  // namespace
}  // namespace tenure::testing
