// Daemons that are started by hand between two lives of a service, or into its place. Nothing that
// the service's supervisor keeps is lost by them.

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "tests/integration/segment_fixture.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {
namespace {

constexpr int kUsage = 64;
constexpr int kUnavailable = 69;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

class SecondServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket()});
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::StatusOr<Segment> segment = PublishPattern(*client, "weights", {MiB(4)});
    ASSERT_TRUE(segment.ok()) << segment.status();
  }
  ~SecondServiceTest() override { unlink(log_.c_str()); }

  // Ends the daemon while its keeper is stopped: the gap between two lives.
  void OpenGap() {
    before_ = daemon_.daemon_pid();
    ASSERT_EQ(kill(daemon_.keeper_pid(), SIGSTOP), 0);
    ASSERT_EQ(kill(before_, SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] { return !daemon_.TryGetStats(); }));
    journal_ = ReadFile(JournalOf(daemon_));
  }
  // The keeper starts the next life, which finds everything.
  void CloseGapAndExpectEverything() {
    EXPECT_EQ(ReadFile(JournalOf(daemon_)), journal_);
    ASSERT_EQ(kill(daemon_.keeper_pid(), SIGCONT), 0);
    ASSERT_TRUE(daemon_.AwaitNext(before_)) << Log();
    const v1::GetStatsResponse stats = daemon_.GetStats();
    EXPECT_EQ(stats.segments(), 1u) << Log();
    EXPECT_EQ(stats.survival().recovered().lost_regions(), 0u);
  }

  // Starts the service's own command line once more, with these flags beside it.
  pid_t StartAnother(bool keeper, const std::vector<std::string>& flags) const {
    std::vector<std::string> command = {"/bin/sh", "-c", "exec \"$0\" \"$@\" 2>" + log_};
    for (const std::string& word : daemon_.command()) {
      if (word != "--keeper" || keeper) command.push_back(word);
    }
    command.insert(command.end(), flags.begin(), flags.end());
    return StartProgram(command, {kTwoDevices});
  }
  std::string Log() const { return ReadFile(log_); }

  static constexpr char kTwoDevices[] = "TENURE_EMULATED_DEVICES=2";
  const std::string log_ = absl::StrCat(::testing::TempDir(), "/second-service-", getpid(), ".log");
  KeptDaemon daemon_{TestDaemon::Options{.environment = {kTwoDevices}}};
  pid_t before_ = 0;
  std::string journal_;
};

TEST_F(SecondServiceTest, AKeeperThatIsStartedInTheGapIsToldWhoKeepsTheMemory) {
  OpenGap();
  const pid_t second = StartAnother(/*keeper=*/true, {});
  const std::string words =
      absl::StrCat("tenured --keeper, process ", daemon_.keeper_pid(), " has locked ");
  EXPECT_TRUE(Eventually([&] { return absl::StrContains(Log(), words); })) << Log();
  ASSERT_EQ(kill(second, SIGTERM), 0);
  WaitForExit(second);
  CloseGapAndExpectEverything();
}

TEST_F(SecondServiceTest, AKeeperForAnotherDeviceLeavesTheJournalToItsService) {
  if (OnRealDevice()) GTEST_SKIP() << "needs two devices";
  OpenGap();
  EXPECT_EQ(WaitForExit(StartAnother(/*keeper=*/true, {"--device", "1"})), kUsage) << Log();
  EXPECT_TRUE(absl::StrContains(Log(), "Start again with the --device of before")) << Log();
  CloseGapAndExpectEverything();
}

TEST_F(SecondServiceTest, ADaemonWithoutASupervisorLeavesTheJournalToItsService) {
  OpenGap();
  std::vector<std::string> devices = {"0"};
  if (!OnRealDevice()) devices.push_back("1");
  for (const std::string& device : devices) {
    EXPECT_EQ(WaitForExit(StartAnother(/*keeper=*/false, {"--device", device})), kUnavailable)
        << Log();
    EXPECT_TRUE(absl::StrContains(Log(), "--keeper")) << Log();
  }
  CloseGapAndExpectEverything();
}

TEST_F(SecondServiceTest, AServiceWhoseLockFileWasRemovedClaimsItsDeviceAnew) {
  for (const auto& entry : std::filesystem::directory_iterator(daemon_.folder())) {
    if (entry.path().extension() == ".lock") std::filesystem::remove(entry.path());
  }
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  OpenGap();
  EXPECT_EQ(WaitForExit(StartAnother(/*keeper=*/false, {})), kUnavailable) << Log();
  EXPECT_TRUE(absl::StrContains(Log(), "has locked")) << Log();
  CloseGapAndExpectEverything();
}

TEST_F(SecondServiceTest, TheClaimTakesTheShareOfNoMemory) {
  const uint64_t stored = daemon_.GetStats().survival().stored_descriptors();
  EXPECT_EQ(stored, 1u) << "the segment's one block";
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  EXPECT_EQ(daemon_.GetStats().survival().stored_descriptors(), stored);
}

}  // namespace
}  // namespace tenure::testing
