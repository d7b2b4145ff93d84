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
  absl::StatusOr<OpenedJournal> Open(bool survives = true, const std::string& device = kDevice) {
    return OpenJournal(path_, device, survives);
  }
  std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  const TestFolder folder_;
  const std::string path_ = folder_.File("journal");
};

TEST_F(JournalOpeningTest, ItLiesBesideTheSocket) {
  EXPECT_EQ(JournalPath("/run/tenured/0/grpc.sock"), "/run/tenured/0/journal");
  EXPECT_EQ(JournalPath("/tmp/mine.sock"), "/tmp/mine.sock.journal");
}

TEST_F(JournalOpeningTest, TheFirstLifeBeginsAJournal) {
  const absl::StatusOr<OpenedJournal> first = Open();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_NE(first->journal, nullptr);
  EXPECT_FALSE(first->before.is_open());
  EXPECT_NE(first->epoch, 0);
}

TEST_F(JournalOpeningTest, ALaterLifeContinuesItUnderAnEpochOfItsOwn) {
  journal::Record record;
  record.mutable_session_opened()->set_session_id(uint64_t{0x1234} << 48 | 1);
  record.mutable_session_opened()->set_pid(1);
  Epoch first_epoch = 0;
  {
    const absl::StatusOr<OpenedJournal> first = Open();
    ASSERT_TRUE(first.ok()) << first.status();
    first_epoch = first->epoch;
    ASSERT_TRUE(first->journal->Append(record).ok());
  }
  for (int i = 0; i < 20; ++i) {
    const absl::StatusOr<OpenedJournal> later = Open();
    ASSERT_TRUE(later.ok()) << later.status();
    EXPECT_EQ(later->before.sessions().size(), 1u);
    EXPECT_FALSE(EpochsIn(later->before).contains(later->epoch));
    if (i == 0) {
      EXPECT_EQ(later->before.opening().epoch(), first_epoch);
    }
  }
}

TEST_F(JournalOpeningTest, OneOfAnotherDeviceIsReplaced) {
  ASSERT_TRUE(Open(true, "GPU-of-another-test").ok());
  const absl::StatusOr<OpenedJournal> opened = Open();
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_FALSE(opened->before.is_open());
  EXPECT_EQ(Open()->before.opening().device_uuid(), kDevice);
}

TEST_F(JournalOpeningTest, ADamagedOneStaysAsItIs) {
  ASSERT_TRUE(Open().ok());
  std::string damaged = Bytes();
  damaged[damaged.size() - 1] ^= 1;
  std::ofstream(path_, std::ios::binary) << damaged;
  EXPECT_TRUE(absl::IsDataLoss(Open().status())) << Open().status();
  EXPECT_EQ(Bytes(), damaged);
}

TEST_F(JournalOpeningTest, WithoutASupervisorNothingOutlivesTheProcess) {
  ASSERT_TRUE(Open().ok());
  const absl::StatusOr<OpenedJournal> opened = Open(/*survives=*/false);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->journal, nullptr);
  EXPECT_FALSE(opened->before.is_open());
  EXPECT_NE(opened->epoch, 0);
  EXPECT_FALSE(std::filesystem::exists(path_)) << "a later life would restore memory that is lost";
}

}  // namespace
}  // namespace tenure::server
