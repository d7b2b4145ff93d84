// The pauses of starts that follow one another without serving.

#include "server/keeper/unfinished_starts.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

class UnfinishedStartsTest : public ::testing::Test {
 protected:
  UnfinishedStartsTest() { std::filesystem::create_directory(folder_); }
  ~UnfinishedStartsTest() override { std::filesystem::remove_all(folder_); }

  // Each start is a process of its own.
  absl::Duration Begin() const { return UnfinishedStarts(folder_).Begin(); }

  const std::string folder_ =
      ::testing::TempDir() + "unfinished-starts-" + std::to_string(getpid());
};

TEST_F(UnfinishedStartsTest, ThePausesGrowUntilAStartServes) {
  EXPECT_EQ(Begin(), absl::ZeroDuration());
  absl::Duration last = absl::ZeroDuration();
  while (last < UnfinishedStarts::kLongest) {
    const absl::Duration next = Begin();
    ASSERT_GT(next, last);
    last = next;
  }
  EXPECT_EQ(last, UnfinishedStarts::kLongest);
  EXPECT_EQ(Begin(), last);
  UnfinishedStarts(folder_).Served();
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_EQ(Begin(), absl::ZeroDuration());
  EXPECT_EQ(Begin(), UnfinishedStarts::kShortest);
}

TEST_F(UnfinishedStartsTest, WithoutAFolderNoStartWaits) {
  for (const std::string& folder : {std::string(), folder_ + "/missing"}) {
    const UnfinishedStarts starts(folder);
    EXPECT_EQ(starts.Begin(), absl::ZeroDuration());
    EXPECT_EQ(starts.Begin(), absl::ZeroDuration());
    starts.Served();
  }
}

}  // namespace
}  // namespace tenure::server
