// How a start continues, replaces or refuses the journal that it finds.

#include "server/leases/journal_opening.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

#include "tests/server/leases/recorded_life.h"

namespace tenure::server {
namespace {

constexpr char kDevice[] = "GPU-of-the-test";

class JournalOpeningTest : public ::testing::Test {
 protected:
  absl::StatusOr<EarlierLife> Read(KeptForStart kept = {}, const std::string& device = kDevice) {
    return ReadEarlierLife(path_, device, kept);
  }
  // A life begins: its journal exists.
  EarlierLife Begin(const std::string& device = kDevice) {
    const absl::StatusOr<EarlierLife> before = Read({.claim = true}, device);
    TENURE_CHECK(before.ok());
    TENURE_CHECK(ContinueJournal(path_, *before).ok());
    return *before;
  }
  std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  void Put(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }
  // The journal of a life of another boot.
  void PutAnotherBoots() const {
    journal::Opening other;
    other.set_boot_id("another");
    other.set_device_uuid(kDevice);
    other.set_epoch(1);
    TENURE_CHECK(Journal::Create(path_, other).ok());
  }

  const TestFolder folder_;
  const std::string path_ = folder_.File("journal");
};

TEST_F(JournalOpeningTest, ItLiesBesideTheSocket) {
  EXPECT_EQ(JournalPath("/run/tenured/0/grpc.sock"), "/run/tenured/0/journal");
  EXPECT_EQ(JournalPath("/tmp/mine.sock"), "/tmp/mine.sock.journal");
}

TEST_F(JournalOpeningTest, TheFirstLifeBeginsAJournal) {
  const EarlierLife before = Begin();
  EXPECT_FALSE(before.state.is_open());
  EXPECT_NE(before.next_epoch, 0);
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(JournalOpeningTest, ReadingChangesNothing) {
  Begin();
  const std::string bytes = Bytes();
  ASSERT_TRUE(Read({.memory = 3}).ok());
  EXPECT_EQ(Bytes(), bytes);
}

TEST_F(JournalOpeningTest, EachLifeHasTheNextEpochAndSkipsThoseOfKeptIds) {
  Epoch last = Begin().next_epoch;
  // A kept id carries the epoch after next.
  const Epoch kept = static_cast<Epoch>(last + 2) == 0 ? Epoch{1} : static_cast<Epoch>(last + 2);
  {
    const absl::StatusOr<EarlierLife> before = Read();
    const auto journal = ContinueJournal(path_, *before);
    ASSERT_TRUE(journal.ok());
    last = before->next_epoch;
    journal::Record record;
    record.mutable_session_opened()->set_session_id(uint64_t{kept} << 48 | 1);
    record.mutable_session_opened()->set_pid(1);
    ASSERT_TRUE((*journal)->Append(record).ok());
  }
  for (int life = 0; life < 20; ++life) {
    Epoch expected = last;
    do {
      ++expected;
    } while (expected == 0 || expected == kept);
    const EarlierLife before = Begin();
    EXPECT_EQ(before.next_epoch, expected);
    EXPECT_EQ(before.state.sessions().size(), 1u);
    last = before.next_epoch;
  }
}

TEST_F(JournalOpeningTest, TheEpochAfterTheLargestIsOne) {
  journal::Opening opening = Read()->opening;
  opening.set_epoch(0xffff);
  ASSERT_TRUE(Journal::Create(path_, opening).ok());
  EXPECT_EQ(Read()->next_epoch, 1);
}

TEST_F(JournalOpeningTest, OneOfAnotherBootIsReplaced) {
  PutAnotherBoots();
  EXPECT_FALSE(Begin().state.is_open());
  EXPECT_TRUE(Read()->state.is_open());
}

TEST_F(JournalOpeningTest, OneOfAnotherDeviceIsReplacedOnlyIfItsSupervisorKeepsNoMemory) {
  Begin("GPU-of-another-test");
  const std::string bytes = Bytes();
  // In the last case another supervisor may keep it.
  for (const KeptForStart& kept :
       {KeptForStart{.memory = 2, .claim = true}, KeptForStart{.memory = 2}, KeptForStart()}) {
    const absl::Status refused = Read(kept).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_NE(refused.message().find("--device"), std::string::npos) << refused;
    EXPECT_EQ(Bytes(), bytes);
  }
  EXPECT_FALSE(Begin().state.is_open());
}

TEST_F(JournalOpeningTest, AMissingOneBesideKeptMemoryIsAWrongSocket) {
  const absl::Status refused = Read({.memory = 2}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_NE(refused.message().find("--socket"), std::string::npos) << refused;
}

TEST_F(JournalOpeningTest, ADamagedOneStaysUntilItIsEmptied) {
  Begin();
  std::string damaged = Bytes();
  damaged[damaged.size() - 1] ^= 1;
  Put(damaged);
  EXPECT_TRUE(absl::IsDataLoss(Read({.memory = 2}).status()));
  EXPECT_EQ(Bytes(), damaged);
  Put("");
  const absl::StatusOr<EarlierLife> emptied = Read({.memory = 2});
  ASSERT_TRUE(emptied.ok()) << emptied.status();
  EXPECT_TRUE(emptied->begin);
}

TEST_F(JournalOpeningTest, ADaemonWithoutASupervisorTouchesNoJournalOfThisBoot) {
  EXPECT_NE(BeginWithoutJournal(path_)->next_epoch, 0);
  for (const char* device : {kDevice, "GPU-of-another-test"}) {
    Begin(device);
    const std::string bytes = Bytes();
    const absl::Status refused = BeginWithoutJournal(path_).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_EQ(Bytes(), bytes);
  }
  Put("damaged");
  EXPECT_TRUE(absl::IsFailedPrecondition(BeginWithoutJournal(path_).status()));
  EXPECT_EQ(Bytes(), "damaged");
  PutAnotherBoots();
  EXPECT_TRUE(BeginWithoutJournal(path_).ok());
  EXPECT_FALSE(std::filesystem::exists(path_)) << "the memory in it is lost";
}

}  // namespace
}  // namespace tenure::server
