#include "server/journal/journal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "tests/server/journal/journal_scene.h"

namespace tenure::server {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() {
    std::string folder = (std::filesystem::temp_directory_path() / "tenure-journal-XXXXXX");
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder_ / "journal";
  }
  ~JournalTest() override { std::filesystem::remove_all(folder_); }

  // A name of its own for each, so that no writer meets the file of another.
  void Put(const std::string& bytes) const { PutFile(path_, bytes); }
  std::string Bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  absl::StatusOr<JournalReading> Read() const { return ReadJournal(path_, OpeningOfLife(9)); }
  std::string PrintRead() const {
    const absl::StatusOr<JournalReading> reading = Read();
    return reading.ok() ? Print(reading->state) : reading.status().ToString();
  }
  void ExpectRefusal(absl::StatusCode code, const std::string& words) const {
    const absl::Status status = Read().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_NE(status.message().find(words), std::string::npos) << status;
    EXPECT_EQ(Journal::Open(path_, OpeningOfLife(9)).status().code(), code);
  }
  std::unique_ptr<Journal> Open(uint32_t epoch) const {
    absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(path_, OpeningOfLife(epoch));
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(JournalTest, ChecksumIsTheStandardsCrc32c) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
}

TEST_F(JournalTest, ALifeFindsWhatTheOnesBeforeItHaveWritten) {
  const std::vector<journal::Record> records = EveryKind();
  EXPECT_TRUE(absl::IsNotFound(Read().status()));
  {
    const std::unique_ptr<Journal> journal = Open(7);
    for (size_t i = 1; i < records.size(); ++i) {
      // The second life begins in the middle.
      if (records[i].has_opening()) break;
      ASSERT_TRUE(journal->Append(records[i]).ok());
    }
    EXPECT_EQ(journal->size(), Bytes().size());
  }
  {
    const std::unique_ptr<Journal> journal = Open(8);
    bool second = false;
    for (const journal::Record& record : records) {
      if (second) {
        ASSERT_TRUE(journal->Append(record).ok());
      }
      second = second || (record.has_opening() && record.opening().epoch() == 8);
    }
  }
  EXPECT_EQ(PrintRead(), PrintsOfPrefixes(records).back());
  EXPECT_EQ(Bytes(), FileOf(records));
  const absl::StatusOr<JournalReading> reading = Read();
  EXPECT_EQ(reading->records, records.size());
  EXPECT_EQ(reading->valid_bytes, Bytes().size());
  EXPECT_FALSE(reading->torn_tail);
  struct stat info = {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(JournalTest, ACutAtAnyByteLeavesTheStateAfterTheWholeRecordsBeforeIt) {
  const std::vector<journal::Record> records = EveryKind();
  const std::string file = FileOf(records);
  const std::vector<std::string> prints = PrintsOfPrefixes(records);
  const std::vector<size_t> ends = EndsIn(records);
  size_t whole = 0;
  for (size_t size = 0; size <= file.size(); ++size) {
    Put(file.substr(0, size));
    while (whole + 1 < ends.size() && ends[whole + 1] <= size) ++whole;
    const absl::StatusOr<JournalReading> reading = Read();
    if (whole == 0) {
      EXPECT_TRUE(absl::IsDataLoss(reading.status())) << "comes into being with its first record";
      continue;
    }
    ASSERT_TRUE(reading.ok()) << "at " << size << ": " << reading.status();
    EXPECT_EQ(Print(reading->state), prints[whole]) << "at " << size;
    EXPECT_EQ(reading->records, whole);
    EXPECT_EQ(reading->valid_bytes, ends[whole]);
    EXPECT_EQ(reading->torn_tail, size != ends[whole]);
    EXPECT_EQ(Bytes().size(), size) << "reading changes nothing";
  }
}

TEST_F(JournalTest, AWriterGoesOnBehindTheLastWholeRecord) {
  const std::vector<journal::Record> records = {Opened(OpeningOfLife(1)), SessionOpened(1),
                                                SessionOpened(2)};
  const std::string file = FileOf(records);
  for (size_t size = EndsIn(records)[2]; size < file.size(); ++size) {
    Put(file.substr(0, size));
    ASSERT_TRUE(Open(2)->Append(SessionOpened(3)).ok());
    EXPECT_EQ(Bytes(),
              FileOf({records[0], records[1], Opened(OpeningOfLife(2)), SessionOpened(3)}));
  }
}

TEST_F(JournalTest, FlippedBitsAreSeenWhereverTheyAre) {
  const std::vector<journal::Record> records = EveryKind();
  const std::string file = FileOf(records);
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    Put(flipped);
    ASSERT_TRUE(absl::IsDataLoss(Read().status())) << "bit " << bit << ": " << Read().status();
  }
}

TEST_F(JournalTest, RandomDamageNeverGivesAStateThatNeverWas) {
  const std::vector<journal::Record> records = EveryKind();
  const std::string file = FileOf(records);
  const std::vector<std::string> prints = PrintsOfPrefixes(records);
  const std::vector<size_t> ends = EndsIn(records);
  std::mt19937_64 random(20251125);
  for (int round = 0; round < 5000; ++round) {
    const size_t size = ends[1] + random() % (file.size() - ends[1] + 1);
    std::string damaged = file.substr(0, size);
    size_t first = size;
    for (uint64_t flips = 1 + random() % 8; flips > 0; --flips) {
      const size_t bit = random() % (size * 8);
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
      first = std::min(first, bit / 8);
    }
    Put(damaged);
    const absl::StatusOr<JournalReading> reading = Read();
    const auto after = std::upper_bound(ends.begin(), ends.end(), size);
    const size_t whole = static_cast<size_t>(after - ends.begin()) - 1;
    if (reading.ok()) {
      EXPECT_EQ(Print(reading->state), prints[whole]) << "round " << round;
      EXPECT_TRUE(damaged == file.substr(0, size) || first >= ends[whole])
          << "round " << round << ": damage at byte " << first << " was not seen";
    } else {
      EXPECT_TRUE(absl::IsDataLoss(reading.status())) << reading.status();
    }
  }
}

TEST_F(JournalTest, DamageIsNamedByRecordAndPlaceAndWithWhatToDo) {
  const std::vector<journal::Record> records = EveryKind();
  std::string file = FileOf(records);
  file[EndsIn(records)[4] + kFrameHeaderBytes] ^= 1;
  Put(file);
  ExpectRefusal(absl::StatusCode::kDataLoss,
                absl::StrCat("record 5 at byte ", EndsIn(records)[4], ":"));
  ExpectRefusal(absl::StatusCode::kDataLoss, "move the file away");
  EXPECT_EQ(Bytes(), file) << "a damaged journal is evidence";
  // Whole records that contradict each other.
  Put(FileOf({records[0], SessionOpened(1), SessionOpened(1)}));
  ExpectRefusal(absl::StatusCode::kDataLoss, "record 3");
  // A record in the place of another.
  std::string doubled = FileOf({records[0], SessionOpened(1)});
  doubled += doubled.substr(EndsIn(records)[1]);
  Put(doubled);
  ExpectRefusal(absl::StatusCode::kDataLoss, "sequence number");
  Put(FileOf(records) + std::string(4096, '\0'));
  ExpectRefusal(absl::StatusCode::kDataLoss, "header");
  Put("no journal at all");
  ExpectRefusal(absl::StatusCode::kDataLoss, "no journal");
}

TEST_F(JournalTest, AnotherBootsOrDevicesJournalSaysSoEvenIfItIsDamaged) {
  journal::Opening other = OpeningOfLife(1);
  other.set_boot_id("another");
  Put(FileOf({Opened(other), SessionOpened(1)}) + std::string(100, 'x'));
  ExpectRefusal(absl::StatusCode::kFailedPrecondition, "another boot");
  other = OpeningOfLife(1);
  other.set_device_uuid("GPU-1");
  other.set_format(kJournalFormat + 1);
  Put(FileOf({Opened(other)}));
  ExpectRefusal(absl::StatusCode::kInvalidArgument, "of device GPU-1");
  ASSERT_TRUE(Journal::Create(path_, OpeningOfLife(2)).ok());
  EXPECT_EQ(Bytes(), FileOf({Opened(OpeningOfLife(2))}));
}

TEST_F(JournalTest, ANewerFormatIsRefusedAndNewerFieldsAreNot) {
  journal::Opening newer = OpeningOfLife(1);
  newer.set_format(kJournalFormat + 1);
  newer.set_daemon_version("9.0");
  Put(FileOf({Opened(newer)}));
  ExpectRefusal(absl::StatusCode::kUnimplemented, "written by tenured 9.0");
  Put(FileOf({Opened(OpeningOfLife(1)), Opened(newer)}));
  ExpectRefusal(absl::StatusCode::kUnimplemented, "newer tenured");
  // Field 1000, a number, in a record and in the message inside it. This version does not know it.
  journal::Record record = SessionOpened(1);
  record.GetReflection()->MutableUnknownFields(&record)->AddVarint(1000, 1);
  journal::SessionOpened& opened = *record.mutable_session_opened();
  opened.GetReflection()->MutableUnknownFields(&opened)->AddVarint(1000, 1);
  Put(FileOf({Opened(OpeningOfLife(1)), record}));
  EXPECT_EQ(Read()->state.sessions().at(1).opened.name(), "worker-1");
  // A kind of record that this version does not know, from a daemon with this version's format.
  journal::Record unknown;
  unknown.GetReflection()->MutableUnknownFields(&unknown)->AddLengthDelimited(1000, "");
  Put(FileOf({Opened(OpeningOfLife(1)), unknown}));
  ExpectRefusal(absl::StatusCode::kDataLoss, "kind");
}

TEST_F(JournalTest, AnEarlierVersionsJournalReadsTheSame) {
  std::filesystem::copy_file(std::filesystem::path(TENURE_TEST_DATA) / "journal.format-1", path_);
  Put(Bytes());
  EXPECT_EQ(PrintRead(), PrintsOfPrefixes(EveryKind()).back());
}

TEST_F(JournalTest, OnlyAFileThatNobodyElseCanHaveWrittenIsRead) {
  const std::string file = FileOf(EveryKind());
  Put(file);
  std::filesystem::rename(path_, folder_ / "other");
  std::filesystem::create_symlink(folder_ / "other", path_);
  ExpectRefusal(absl::StatusCode::kPermissionDenied, "symbolic link");
  for (const mode_t mode : {0620u, 0602u}) {
    Put(file);
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    ExpectRefusal(absl::StatusCode::kPermissionDenied, "written by others");
  }
  std::filesystem::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  ExpectRefusal(absl::StatusCode::kPermissionDenied, "regular file");
  if (geteuid() == 0) {
    Put(file);
    ASSERT_EQ(chown(path_.c_str(), 12345, static_cast<gid_t>(-1)), 0);
    ExpectRefusal(absl::StatusCode::kPermissionDenied, "uid 12345");
  }
}

TEST_F(JournalTest, AfterAnAppendThatFailedNothingIsWritten) {
  const std::unique_ptr<Journal> journal = Open(1);
  ASSERT_TRUE(journal->Append(SessionOpened(1)).ok());
  const std::string before = Bytes();
  struct rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto ignored = signal(SIGXFSZ, SIG_IGN);
  // Room for a part of the record.
  rlimit tight = old;
  tight.rlim_cur = before.size() + 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const absl::Status failed = journal->Append(SessionOpened(2));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  signal(SIGXFSZ, ignored);
  EXPECT_TRUE(absl::IsUnavailable(failed)) << failed;
  EXPECT_TRUE(absl::IsUnavailable(journal->Append(SessionOpened(3))));
  EXPECT_TRUE(absl::IsUnavailable(journal->Compact()));
  EXPECT_EQ(Bytes().size(), before.size() + 10);
  EXPECT_EQ(PrintRead(), PrintsOfPrefixes({Opened(OpeningOfLife(1)), SessionOpened(1)}).back());
}

TEST_F(JournalTest, ARecordThatIsTooLargeIsTheCallersFault) {
  const std::unique_ptr<Journal> journal = Open(1);
  journal::Record record = SessionOpened(1);
  record.mutable_session_opened()->set_name(std::string(kMaxRecordBytes, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(journal->Append(record)));
  EXPECT_TRUE(journal->Append(SessionOpened(1)).ok());
  EXPECT_EQ(Read()->records, 2u);
}

TEST_F(JournalTest, RecordsOfManyThreadsAreAllThere) {
  constexpr uint64_t kThreads = 8;
  constexpr uint64_t kEach = 500;
  const std::unique_ptr<Journal> journal = Open(1);
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&journal, thread] {
      for (uint64_t i = 1; i <= kEach; ++i) {
        ASSERT_TRUE(journal->Append(SessionOpened(thread * kEach + i)).ok());
      }
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(journal->Compact().ok());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Read()->state.sessions().size(), kThreads * kEach);
}

}  // namespace
}  // namespace tenure::server
