// The daemon as a process among others: its standard files, its log, and signals.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
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
