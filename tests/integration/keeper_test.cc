// `tenured --keeper`: after which exit codes it starts the daemon again, which messages it accepts,
// and that it stays small.

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>
#include <systemd/sd-daemon.h>

#include "common/unique_fd.h"
#include "tests/support/fd_store_peer_process.h"
#include "tests/support/kept_daemon.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// The child of a process that has one thread and one child; 0 while it has none.
pid_t ChildOf(pid_t pid) {
  return std::atoi(ReadFile(absl::StrCat("/proc/", pid, "/task/", pid, "/children")).c_str());
}

size_t CountThreads(pid_t pid) {
  const std::filesystem::directory_iterator tasks(absl::StrCat("/proc/", pid, "/task"));
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

// The notify socket of the keeper that made its folder in `folder`.
std::string NotifyPath(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (std::filesystem::exists(entry.path() / "notify")) return entry.path() / "notify";
  }
  return "";
}

// Sends a message to a supervisor from this process, which is not its child.
void SendAsAStranger(const std::string& socket, const std::string& message, int fd) {
  setenv("NOTIFY_SOCKET", socket.c_str(), 1);
  EXPECT_GT(sd_pid_notify_with_fds(0, 1, message.c_str(), &fd, fd < 0 ? 0 : 1), 0);
}

// Whether a daemon answers on the socket. The channel is new: an old one would wait after a
// failure.
bool Serves(const TestDaemon& daemon) {
  return daemon.NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                               std::chrono::milliseconds(200));
}

TEST(KeeperTest, ADaemonThatFailsIsStartedAgainWithWhatItStored) {
  FdStorePeer peer;
  ASSERT_EQ(peer.Tell("store a bytes"), "ok");
  for (const int code : {70, 71, 69, 1, 255}) {
    EXPECT_EQ(peer.Tell(absl::StrCat("exit ", code)), std::nullopt);
    peer.AwaitNext();
    EXPECT_EQ(peer.Tell("inherited"), "a=bytes") << code;
  }
}

TEST(KeeperTest, ADaemonThatIsDoneOrCannotStartEndsTheKeeperWithItsCode) {
  for (const int code : {0, 64}) {
    FdStorePeer peer;
    EXPECT_EQ(peer.Tell(absl::StrCat("exit ", code)), std::nullopt);
    EXPECT_EQ(peer.WaitForKeeper(), code);
    EXPECT_EQ(NotifyPath(peer.folder()), "");
  }
}

TEST(KeeperTest, AWrongCommandLineEndsTheKeeperBeforeItsDaemonEverServed) {
  const pid_t keeper = StartProgram({ProgramFolder() + "/fd_store_peer", "--keeper", "/nowhere"},
                                    {"TENURE_PEER_EXIT_AT_START=64"});
  EXPECT_EQ(WaitForExit(keeper), 64);
}

TEST(KeeperTest, SignalsThatEndArePassedOnAndNoDaemonIsStartedAgain) {
  for (const int signal : {SIGTERM, SIGINT}) {
    FdStorePeer peer;
    ASSERT_EQ(peer.Tell("store a bytes"), "ok");
    const pid_t child = peer.pid();
    kill(peer.supervisor(), signal);
    EXPECT_EQ(peer.WaitForKeeper(), 128 + signal);
    EXPECT_EQ(kill(child, 0), -1) << "the child outlived its keeper";
    EXPECT_EQ(NotifyPath(peer.folder()), "");
  }
}

TEST(KeeperTest, AKeeperWhoseDaemonNeverStartsEndsWhenAsked) {
  const pid_t keeper = StartProgram({ProgramFolder() + "/fd_store_peer", "--keeper", "/nowhere"},
                                    {"TENURE_PEER_EXIT_AT_START=69"});
  ASSERT_TRUE(Eventually([&] { return ChildOf(keeper) != 0; }));
  const pid_t first = ChildOf(keeper);
  ASSERT_TRUE(Eventually([&] {
    const pid_t now = ChildOf(keeper);
    return now != 0 && now != first;
  }));
  kill(keeper, SIGTERM);
  const int code = WaitForExit(keeper);
  // 0: the signal arrived between two children. Else it is the code of the child, which ended by
  // itself or by the signal.
  EXPECT_TRUE(code == 0 || code == 69 || code == 128 + SIGTERM) << code;
}

TEST(KeeperTest, AWholeDevicesRegionsComeBack) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < 10000) GTEST_SKIP() << "no 10 000 open files are allowed here";
  FdStorePeer peer({"TENURE_PEER_MAX=4096"});
  ASSERT_EQ(peer.Tell("batch region-of-the-device- 4096"), "ok");
  EXPECT_EQ(peer.Tell("store one more"), "RESOURCE_EXHAUSTED");
  const int before = CountFds(peer.supervisor());
  peer.Kill();
  const std::string inherited = peer.Tell("inherited").value();
  EXPECT_EQ(std::count(inherited.begin(), inherited.end(), '='), 4096);
  EXPECT_NE(inherited.find("region-of-the-device-4095=region-of-the-device-4095"),
            std::string::npos);
  EXPECT_EQ(CountFds(peer.supervisor()), before);
  // The names are returned in one environment variable, which could not hold these.
  FdStorePeer other({"TENURE_PEER_MAX=4096"});
  EXPECT_EQ(other.Tell("batch " + std::string(200, 'x') + " 1000"), "RESOURCE_EXHAUSTED");
}

TEST(KeeperTest, MessagesOfStrangersAreIgnored) {
  FdStorePeer peer;
  ASSERT_EQ(peer.Tell("store ours bytes"), "ok");
  const std::string notify = NotifyPath(peer.folder());
  ASSERT_NE(notify, "");
  const UniqueFd memory(memfd_create("stranger", MFD_CLOEXEC));
  const int before = CountFds(peer.supervisor());
  SendAsAStranger(notify, "FDSTORE=1\nFDNAME=theirs", memory.get());
  SendAsAStranger(notify, "FDSTOREREMOVE=1\nFDNAME=ours", -1);
  SendAsAStranger(notify, "BARRIER=1", memory.get());
  SendAsAStranger(notify, std::string(8192, 'x'), memory.get());
  // A store ends with a barrier, so the keeper has read all messages before it.
  ASSERT_EQ(peer.Tell("store later bytes"), "ok");
  EXPECT_EQ(CountFds(peer.supervisor()), before + 1);
  peer.Kill();
  EXPECT_EQ(peer.Tell("names"), "later:ours");
}

TEST(KeeperTest, ADaemonWhoseKeeperIsKilledKeepsServingAndCannotStore) {
  FdStorePeer peer;
  ASSERT_EQ(peer.Tell("store a bytes"), "ok");
  const pid_t daemon = peer.pid();
  kill(peer.supervisor(), SIGKILL);
  EXPECT_EQ(peer.WaitForKeeper(), 128 + SIGKILL);
  EXPECT_EQ(peer.Tell("store b bytes"), "UNAVAILABLE");
  EXPECT_EQ(peer.Tell("names"), "");
  kill(daemon, SIGKILL);
}

TEST(KeeperTest, TheRealDaemonServesAgainAfterItsDeathAndItsKeeperStaysSmall) {
  // The constructor returns when the daemon serves, so its keeper has started it.
  TestDaemon daemon(TestDaemon::Options{.flags = {"--keeper"}});
  const pid_t keeper = daemon.pid();
  for (int life = 0; life < 3; ++life) {
    const pid_t child = ChildOf(keeper);
    ASSERT_GT(child, 0);
    kill(child, SIGKILL);
    ASSERT_TRUE(Eventually([&] {
      const pid_t next = ChildOf(keeper);
      return next != 0 && next != child && Serves(daemon);
    }));
  }
  EXPECT_EQ(CountThreads(keeper), 1u);
  EXPECT_EQ(ReadFile(absl::StrCat("/proc/", keeper, "/maps")).find("cuda"), std::string::npos);
  EXPECT_EQ(daemon.Stop(), 0);
}

TEST(KeeperTest, SignalsThatDoNotEndReachNobodyOrTheDaemonWhichServesOn) {
  KeptDaemon daemon;
  const pid_t child = daemon.daemon_pid();
  for (const int signal : {SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGRTMIN}) {
    ASSERT_EQ(kill(daemon.keeper_pid(), signal), 0);
    // The keeper reads its signals in their order, so after the next answer it has read this one.
    EXPECT_EQ(daemon.GetStats().health(), "SERVING") << signal;
  }
  ASSERT_EQ(kill(daemon.keeper_pid(), SIGQUIT), 0);
  EXPECT_EQ(daemon.WaitForEnd(), 0);
  EXPECT_EQ(kill(child, 0), -1) << "the daemon outlived its keeper";
}

TEST(KeeperTest, ACleanEndLeavesNeitherSocketsNorJournal) {
  KeptDaemon daemon;
  ASSERT_TRUE(std::filesystem::exists(JournalOf(daemon)));
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_TRUE(std::filesystem::is_empty(daemon.folder()));
}

TEST(KeeperTest, AConfigFileCannotMakeTheKeepersChildAKeeper) {
  TestDaemon daemon;
  const std::string config = daemon.folder() + "/keeper.conf";
  std::ofstream(config) << "keeper=true\n";
  const pid_t checked = StartProgram(
      {ProgramFolder() + "/tenured", "--log-level", "off", "--check-config", "--config", config});
  EXPECT_EQ(WaitForExit(checked), 64);
  std::filesystem::remove(config);
}

}  // namespace
}  // namespace tenure::testing
