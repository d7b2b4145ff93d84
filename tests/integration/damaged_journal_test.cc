// A journal that was damaged between two lives of the daemon: the next daemon reports it and does
// not serve until an operator has put an empty file in its place.

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "common/bytes.h"
#include "tests/support/fd_store_peer_process.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {
namespace {

constexpr char kMoveAway[] = "move the file away and put an empty file in its place";
constexpr char kNotRead[] = "it is not read, because another user may have written it; remove it";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  ASSERT_TRUE(file.flush().good());
}

int Count(const std::string& text, const std::string& words) {
  int count = 0;
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1))
    ++count;
  return count;
}

class DamagedJournalTest : public ::testing::Test {
 protected:
  DamagedJournalTest()
      : log_path_(absl::StrCat(::testing::TempDir(), "/log-of-", getpid())),
        daemon_(TestDaemon::Options{
            .flags = {"--lease-ttl", "1s"},
            .wrapper = {"/bin/sh", "-c", absl::StrCat("exec \"$0\" \"$@\" 2>", log_path_)},
            .memory = "1GiB"}) {}
  ~DamagedJournalTest() override { unlink(log_path_.c_str()); }

  Client Connect() {
    ConnectOptions options;
    options.socket = daemon_.socket();
    options.memory_kind = MemoryKind::kVmmFd;
    options.on_lost = [this](const absl::Status& why) {
      lost_ = why;
      is_lost_.Notify();
    };
    absl::StatusOr<Client> client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  // Kills the daemon, and damages its journal before the next daemon starts.
  void BetweenTwoLives(const std::function<void(const std::string& journal)>& damage) {
    const pid_t daemon = daemon_.daemon_pid();
    ASSERT_EQ(kill(daemon_.keeper_pid(), SIGSTOP), 0);
    ASSERT_EQ(kill(daemon, SIGKILL), 0);
    // The parent is stopped and cannot reap the daemon. A zombie has closed its files.
    ASSERT_TRUE(Eventually([&] {
      return absl::StrContains(ReadFile(absl::StrCat("/proc/", daemon, "/stat")), ") Z ");
    }));
    damage(JournalOf(daemon_));
    ASSERT_EQ(kill(daemon_.keeper_pid(), SIGCONT), 0);
  }

  // Checks that no daemon serves: each logs `advice` and ends with 69, and the keeper keeps
  // starting them. When an empty file lies in its place, the next daemon starts without state, and
  // the client is told that its session is lost.
  void ExpectRefusal(const std::function<void(const std::string& journal)>& damage,
                     const std::string& advice) {
    const int keeper_fds = CountFds(daemon_.keeper_pid());
    Client client = Connect();
    absl::StatusOr<DeviceBuffer> small = client.Allocate(KiB(40));
    absl::StatusOr<DeviceBuffer> large = client.Allocate(MiB(5));
    ASSERT_TRUE(small.ok() && large.ok());
    const pid_t before = daemon_.daemon_pid();
    BetweenTwoLives(damage);
    ASSERT_TRUE(Eventually([&] { return Count(ReadFile(log_path_), "ended with 69") >= 2; }))
        << ReadFile(log_path_);
    EXPECT_FALSE(daemon_.NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                                        std::chrono::milliseconds(100)));
    const std::string log = ReadFile(log_path_);
    EXPECT_TRUE(absl::StrContains(log, absl::StrCat("journal ", JournalOf(daemon_)))) << log;
    EXPECT_TRUE(absl::StrContains(log, advice)) << log;
    EXPECT_FALSE(is_lost_.HasBeenNotified())
        << "the session was reported as lost too early: " << lost_;

    std::filesystem::rename(JournalOf(daemon_), JournalOf(daemon_) + ".away");
    WriteFile(JournalOf(daemon_), "");
    ASSERT_TRUE(daemon_.AwaitNext(before));
    EXPECT_TRUE(daemon_.ListAllocations().empty());
    ASSERT_TRUE(is_lost_.WaitForNotificationWithTimeout(absl::Seconds(20)));
    EXPECT_TRUE(absl::IsAborted(lost_)) << lost_;
    EXPECT_TRUE(absl::IsAborted(client.Allocate(KiB(4)).status()));
    // Without the journal the owners are unknown: the memory was returned to the driver, which
    // keeps it intact for the processes that have it mapped.
    EXPECT_TRUE(Eventually([&] { return CountFds(daemon_.keeper_pid()) <= keeper_fds; }));
    ConnectOptions options;
    options.socket = daemon_.socket();
    options.memory_kind = MemoryKind::kVmmFd;
    absl::StatusOr<Client> anew = Client::Connect(options);
    ASSERT_TRUE(anew.ok()) << anew.status();
    EXPECT_TRUE(anew->Allocate(MiB(5)).ok());
  }

  const std::string log_path_;
  KeptDaemon daemon_;
  absl::Notification is_lost_;
  absl::Status lost_;
};

TEST_F(DamagedJournalTest, AChangedByteIsRefused) {
  ExpectRefusal(
      [](const std::string& journal) {
        std::string bytes = ReadFile(journal);
        bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x10);
        WriteFile(journal, bytes);
      },
      kMoveAway);
}

TEST_F(DamagedJournalTest, AnotherFileInItsPlaceIsRefused) {
  ExpectRefusal([](const std::string& journal) { WriteFile(journal, std::string(5000, 'x')); },
                kMoveAway);
}

TEST_F(DamagedJournalTest, AFileThatOthersMayWriteIsRefused) {
  ExpectRefusal([](const std::string& journal) { ASSERT_EQ(chmod(journal.c_str(), 0666), 0); },
                kNotRead);
}

TEST_F(DamagedJournalTest, AFileOfAnotherUserIsRefused) {
  if (geteuid() != 0) GTEST_SKIP() << "giving a file away needs root";
  ExpectRefusal(
      [](const std::string& journal) { ASSERT_EQ(chown(journal.c_str(), 65534, 65534), 0); },
      kNotRead);
}

TEST_F(DamagedJournalTest, ALinkInItsPlaceIsRefused) {
  ExpectRefusal(
      [](const std::string& journal) {
        std::filesystem::rename(journal, journal + ".real");
        std::filesystem::create_symlink(journal + ".real", journal);
      },
      kNotRead);
}

// A death in the middle of a write leaves such a journal. Here the record of the second block is
// cut after the block was granted, so that block is lost, and no other.
TEST_F(DamagedJournalTest, ARecordThatIsCutShortAtTheEndIsNoDamage) {
  Client client = Connect();
  absl::StatusOr<DeviceBuffer> first = client.Allocate(MiB(3));
  absl::StatusOr<DeviceBuffer> second = client.Allocate(MiB(5));
  ASSERT_TRUE(first.ok() && second.ok());
  const pid_t before = daemon_.daemon_pid();
  BetweenTwoLives([](const std::string& journal) {
    std::filesystem::resize_file(journal, std::filesystem::file_size(journal) - 1);
  });
  ASSERT_TRUE(daemon_.AwaitNext(before));
  const std::vector<v1::Allocation> left = daemon_.ListAllocations();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].allocation_id(), first->allocation_id());
  EXPECT_TRUE(absl::IsAborted(second->Release()));
  EXPECT_TRUE(first->Release().ok());
  EXPECT_TRUE(client.Allocate(MiB(5)).ok());
  EXPECT_FALSE(is_lost_.HasBeenNotified()) << lost_;
}

}  // namespace
}  // namespace tenure::testing
