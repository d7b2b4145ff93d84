// The journal's writer dies by SIGKILL, or halfway through a folding.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "server/journal/journal.h"
#include "tests/server/journal/journal_scene.h"

namespace tenure::server {
namespace {

class JournalDeathTest : public ::testing::Test {
 protected:
  JournalDeathTest() {
    std::string folder = std::filesystem::temp_directory_path() / "tenure-journal-XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    path_ = std::filesystem::path(folder) / "journal";
  }
  ~JournalDeathTest() override { std::filesystem::remove_all(path_.parent_path()); }

  std::unique_ptr<Journal> Open(uint32_t epoch) const {
    absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(path_, OpeningOfLife(epoch));
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }
  std::string PrintRead() const {
    const absl::StatusOr<JournalReading> reading = ReadJournal(path_, OpeningOfLife(9));
    return reading.ok() ? Print(reading->state) : reading.status().ToString();
  }

  std::filesystem::path path_;
};

// Writes History(seed) without an end, and a byte into the pipe after each record.
[[noreturn]] void WriteHistory(const std::string& path, uint64_t seed, uint64_t compact_every,
                               int acknowledge) {
  absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(path, OpeningOfLife(1));
  if (!journal.ok()) _exit(1);
  History history(seed);
  history.Next();  // the opening, which Open has written
  for (uint64_t i = 1;; ++i) {
    if (!(*journal)->Append(history.Next()).ok()) _exit(2);
    if (write(acknowledge, "a", 1) != 1) _exit(3);
    if (compact_every != 0 && i % compact_every == 0 && !(*journal)->Compact().ok()) _exit(4);
  }
}

// Takes acknowledgements from a child until there are `enough`, kills it, and takes the rest.
uint64_t KillAfter(pid_t child, int acknowledged, uint64_t enough) {
  uint64_t count = 0;
  bool killed = false;
  char buffer[4096];
  ssize_t got;
  while ((got = read(acknowledged, buffer, sizeof buffer)) > 0) {
    count += static_cast<uint64_t>(got);
    if (killed || count < enough) continue;
    kill(child, SIGKILL);
    killed = true;
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself: " << WEXITSTATUS(status);
  return count;
}

// The state that was read is that after `acknowledged` records or the one more that was on its way.
void ExpectStateAfter(const std::string& print, uint64_t seed, uint64_t acknowledged) {
  History history(seed);
  JournalState state;
  for (uint64_t i = 0; i < acknowledged + 1; ++i) {  // and the opening
    ASSERT_TRUE(state.Apply(history.Next()).ok());
  }
  if (print == Print(state)) return;
  ASSERT_TRUE(state.Apply(history.Next()).ok());
  EXPECT_EQ(print, Print(state)) << "seed " << seed << ", " << acknowledged << " acknowledged";
}

TEST_F(JournalDeathTest, WhatAKilledWriterHadAcknowledgedIsThere) {
  std::mt19937_64 random(1);
  for (uint64_t round = 0; round < 60; ++round) {
    std::filesystem::remove(path_);
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const uint64_t compact_every = round % 2 == 0 ? 0 : 1 + random() % 20;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(ends[0]);
      WriteHistory(path_, round, compact_every, ends[1]);
    }
    close(ends[1]);
    const UniqueFd acknowledged(ends[0]);
    const uint64_t count = KillAfter(child, acknowledged.get(), 1 + random() % 500);
    ExpectStateAfter(PrintRead(), round, count);
    // The next life continues it.
    const std::unique_ptr<Journal> journal = Open(2);
    ASSERT_NE(journal, nullptr);
    EXPECT_TRUE(journal->Append(SessionOpened(uint64_t{1} << 40)).ok());
    EXPECT_TRUE(journal->Compact().ok());
    EXPECT_NE(PrintRead().find("worker-1099511627776"), std::string::npos);
  }
}

TEST_F(JournalDeathTest, FoldingTheFileChangesNothingButItsSize) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::filesystem::remove(path_);
    const std::unique_ptr<Journal> journal = Open(1);
    History history(seed);
    JournalState state;
    ASSERT_TRUE(state.Apply(history.Next()).ok());
    for (int i = 0; i < 1000; ++i) {
      const journal::Record record = history.Next();
      ASSERT_TRUE(state.Apply(record).ok());
      ASSERT_TRUE(journal->Append(record).ok());
      if (i % 100 == 50) {
        ASSERT_TRUE(journal->Compact().ok());
      }
    }
    EXPECT_EQ(PrintRead(), Print(state)) << "seed " << seed;
    const uint64_t before = journal->size();
    ASSERT_TRUE(journal->Compact().ok());
    EXPECT_EQ(PrintRead(), Print(state)) << "seed " << seed;
    EXPECT_LE(journal->size(), before);
    EXPECT_EQ(journal->size(), std::filesystem::file_size(path_));
    EXPECT_FALSE(std::filesystem::exists(path_.string() + ".new"));
  }
}

TEST_F(JournalDeathTest, AFoldingThatStoppedAtAnyByteIsForgotten) {
  const std::string old_file = FileOf(EveryKind());
  std::vector<journal::Record> folded;
  JournalState state;
  for (const journal::Record& record : EveryKind()) {
    ASSERT_TRUE(state.Apply(record).ok());
  }
  ASSERT_TRUE(state
                  .ForEachRecord([&folded](const journal::Record& record) {
                    folded.push_back(record);
                    return absl::OkStatus();
                  })
                  .ok());
  const std::string new_file = FileOf(folded);
  const std::string unfinished = path_.string() + ".new";
  for (size_t size = 0; size <= new_file.size(); ++size) {
    // The old file still has the name.
    PutFile(path_, old_file);
    PutFile(unfinished, new_file.substr(0, size));
    EXPECT_EQ(PrintRead(), Print(state));
    const std::unique_ptr<Journal> journal = Open(8);
    ASSERT_NE(journal, nullptr);
    EXPECT_FALSE(std::filesystem::exists(unfinished));
    ASSERT_TRUE(journal->Compact().ok());
    EXPECT_EQ(PrintRead(), Print(state));
  }
  // The new one has it.
  PutFile(path_, new_file);
  EXPECT_EQ(PrintRead(), Print(state));
}

TEST_F(JournalDeathTest, AFoldingThatFailsLeavesTheOldFileInUse) {
  const std::unique_ptr<Journal> journal = Open(1);
  ASSERT_TRUE(journal->Append(SessionOpened(1)).ok());
  // A folder under the name of the new file.
  std::filesystem::create_directory(path_.string() + ".new");
  EXPECT_FALSE(journal->Compact().ok());
  ASSERT_TRUE(journal->Append(SessionOpened(2)).ok());
  std::filesystem::remove(path_.string() + ".new");
  EXPECT_TRUE(journal->Compact().ok());
  ASSERT_TRUE(journal->Append(SessionOpened(3)).ok());
  EXPECT_EQ(ReadJournal(path_, OpeningOfLife(1))->state.sessions().size(), 3u);
}

TEST_F(JournalDeathTest, FoldingPaysWhenTheFileHasGrownALot) {
  const std::unique_ptr<Journal> journal = Open(1);
  journal::Record large = SessionOpened(1);
  large.mutable_session_opened()->set_name(std::string(1 << 20, 'x'));
  EXPECT_FALSE(journal->ShouldCompact());
  for (uint64_t session = 1; session <= 17; ++session) {
    large.mutable_session_opened()->set_session_id(session);
    ASSERT_TRUE(journal->Append(large).ok());
  }
  EXPECT_TRUE(journal->ShouldCompact());
  ASSERT_TRUE(journal->Compact().ok());
  EXPECT_FALSE(journal->ShouldCompact()) << "all of it is live";
  for (uint64_t session = 18; session <= 60; ++session) {
    large.mutable_session_opened()->set_session_id(session);
    ASSERT_TRUE(journal->Append(large).ok());
  }
  EXPECT_FALSE(journal->ShouldCompact());
  for (uint64_t session = 61; session <= 70; ++session) {
    large.mutable_session_opened()->set_session_id(session);
    ASSERT_TRUE(journal->Append(large).ok());
  }
  EXPECT_TRUE(journal->ShouldCompact());
}

}  // namespace
}  // namespace tenure::server
