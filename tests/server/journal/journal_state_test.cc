#include "server/journal/journal_state.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/server/journal/journal_scene.h"

namespace tenure::server {
namespace {

using State = RequestWindow::State;

JournalState After(const std::vector<journal::Record>& records) {
  JournalState state;
  for (const journal::Record& record : records) {
    const absl::Status applied = state.Apply(record);
    EXPECT_TRUE(applied.ok()) << applied << ": " << record.ShortDebugString();
  }
  return state;
}

JournalState Folded(const JournalState& state) {
  JournalState again;
  EXPECT_TRUE(
      state.ForEachRecord([&again](const journal::Record& record) { return again.Apply(record); })
          .ok());
  return again;
}

// `record` is refused after `before` with these words, and changes nothing.
void ExpectContradiction(const std::vector<journal::Record>& before, const journal::Record& record,
                         const std::string& words) {
  JournalState state = After(before);
  const std::string print = Print(state);
  const absl::Status applied = state.Apply(record);
  EXPECT_EQ(applied.code(), absl::StatusCode::kDataLoss) << record.ShortDebugString();
  EXPECT_NE(applied.message().find(words), std::string::npos) << applied;
  EXPECT_EQ(Print(state), print);
}

TEST(JournalStateTest, WhatIsLiveIsWhatWasGivenAndNotGivenBack) {
  const JournalState state = After(EveryKind());
  EXPECT_EQ(state.opening().epoch(), 8u);
  ASSERT_EQ(state.sessions().size(), 2u);
  const JournalState::Session& first = state.sessions().at(1);
  EXPECT_EQ(first.opened.name(), "worker-1");
  ASSERT_EQ(first.blocks.size(), 1u);
  EXPECT_EQ(first.blocks.at(12).offset_bytes(), 1024u);
  EXPECT_TRUE(first.claims.empty()) << "publishing ends the claim";
  EXPECT_TRUE(first.attachments.empty());
  const JournalState::Session& second = state.sessions().at(2);
  EXPECT_EQ(second.blocks.size(), 1u);
  EXPECT_EQ(state.claims(), (std::map<SegmentKey, SessionId>{{{1001, "qwen"}, 2}}));
  ASSERT_EQ(state.segments().size(), 2u) << "a session is attached to the first llama";
  EXPECT_FALSE(state.segments().begin()->second.published);
  EXPECT_EQ(state.segments().begin()->second.attachments.size(), 1u);
  EXPECT_TRUE(state.segments().rbegin()->second.published);
  EXPECT_EQ(state.segments().rbegin()->second.segment.tensors(0).dtype(), "BF16");
}

TEST(JournalStateTest, ARepeatedRequestFindsItsFirstAnswer) {
  const JournalState state = After(EveryKind());
  const RequestWindow& first = state.sessions().at(1).requests;
  EXPECT_EQ(first.Find(102)->state, State::kGranted);
  EXPECT_EQ(first.Find(102)->id, 12u);
  EXPECT_EQ(first.Find(101)->state, State::kGranted) << "of a block that is gone: an id once used";
  EXPECT_EQ(first.Find(103)->state, State::kFreed);
  EXPECT_EQ(first.Find(103)->id, 11u);
  const RequestWindow& second = state.sessions().at(2).requests;
  EXPECT_EQ(second.Find(901)->state, State::kFreed);
  EXPECT_EQ(second.Find(100), nullptr)
      << "the record replaces the requests that were remembered before";
}

TEST(JournalStateTest, TheWindowOfRequestsIsTheDaemons) {
  JournalState state = After({Opened(OpeningOfLife(1)), SessionOpened(1)});
  ASSERT_TRUE(state.Apply(Granted(1, 1, 1, 50, 0)).ok());
  for (uint64_t id = 2; id <= RequestWindow::kRemembered; id += 2) {
    ASSERT_TRUE(state.Apply(Granted(1, id, id, 51, 0)).ok());
    ASSERT_TRUE(state.Apply(Freed(1, id, id + 1)).ok());
  }
  EXPECT_EQ(state.sessions().at(1).requests.Find(1), nullptr);
  EXPECT_NE(state.sessions().at(1).requests.Find(2), nullptr);
  const JournalState folded = Folded(state);
  EXPECT_EQ(Print(folded), Print(state)) << "the order of the requests too";
  EXPECT_EQ(folded.sessions().at(1).requests.Find(1), nullptr);
}

TEST(JournalStateTest, FoldingAStatesOwnRecordsGivesTheState) {
  const std::vector<journal::Record> records = EveryKind();
  JournalState state;
  for (const journal::Record& record : records) {
    ASSERT_TRUE(state.Apply(record).ok());
    EXPECT_EQ(Print(Folded(state)), Print(state));
  }
  // Both continue in the same way.
  JournalState folded = Folded(state);
  for (const journal::Record& record :
       {SessionEnded(2), Unpublished("llama", 1000), Granted(1, 90, 90, 70, 0),
        Granted(1, 91, 91, 73, 0), SessionEnded(1)}) {
    EXPECT_TRUE(state.Apply(record).ok());
    EXPECT_TRUE(folded.Apply(record).ok());
    EXPECT_EQ(Print(folded), Print(state));
  }
  EXPECT_EQ(state.segments().size(), 0u);
}

TEST(JournalStateTest, RandomHistoriesFoldToTheSameState) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    History history(seed);
    JournalState state;
    for (int i = 0; i < 1000; ++i) ASSERT_TRUE(state.Apply(history.Next()).ok());
    EXPECT_EQ(Print(Folded(state)), Print(state)) << "seed " << seed;
  }
}

TEST(JournalStateTest, TheEndOfASessionIsTheEndOfAllThatItHas) {
  JournalState state = After(EveryKind());
  ASSERT_TRUE(state.Apply(SessionEnded(2)).ok());
  EXPECT_TRUE(state.claims().empty());
  EXPECT_EQ(state.segments().size(), 1u) << "no session is attached to the first llama any more";
  EXPECT_TRUE(state.Apply(Granted(1, 50, 500, 72, 4096)).ok()) << "its region serves again";
}

TEST(JournalStateTest, ContradictionsOfSessionsAndBlocksAreRefused) {
  const std::vector<journal::Record> all = EveryKind();
  ExpectContradiction({}, SessionOpened(1), "before any opening");
  ExpectContradiction(all, journal::Record(), "kind");
  ExpectContradiction(all, SessionOpened(1), "session that is open");
  ExpectContradiction(all, SessionOpened(0), "without an id");
  ExpectContradiction(all, SessionEnded(3), "session that does not exist");
  ExpectContradiction(all, Granted(3, 50, 500, 75, 0), "session that does not exist");
  ExpectContradiction(all, Granted(1, 20, 500, 75, 0), "id that is in use");
  ExpectContradiction(all, Granted(1, 0, 500, 75, 0), "without an id");
  ExpectContradiction(all, Granted(1, 50, 0, 75, 0), "without an id");
  ExpectContradiction(all, Granted(1, 50, 500, 0, 0), "no region");
  ExpectContradiction(all, Granted(1, 50, 500, 72, 0), "another owner has");
  ExpectContradiction(all, Granted(1, 50, 500, 73, 2048), "another owner has");
  ExpectContradiction(all, Granted(1, 50, 500, 71, 1023), "overlap");
  ExpectContradiction(all, Granted(1, 50, 500, 71, 1024), "overlap");
  ExpectContradiction(all, Granted(1, 50, 500, 71, 2047), "overlap");
  ExpectContradiction(all, Granted(1, 50, 500, 75, (2 << 20) - 1023), "outside its region");
  ExpectContradiction(all, Granted(1, 50, 500, 75, std::numeric_limits<uint64_t>::max() - 5),
                      "outside its region");
  ExpectContradiction(all, Freed(1, 11, 600), "does not hold");
  ExpectContradiction(all, Freed(2, 12, 600), "does not hold");
  ExpectContradiction(all, Freed(3, 30, 600), "session that does not exist");
  journal::Record resized = Granted(1, 50, 500, 71, 4096);
  resized.mutable_block_granted()->set_region_bytes(4 << 20);
  ExpectContradiction(all, resized, "another size");
  journal::Record less = Granted(1, 50, 500, 71, 4096);
  less.mutable_block_granted()->set_requested_bytes(1025);
  ExpectContradiction(all, less, "less than was asked for");
}

TEST(JournalStateTest, ContradictionsOfSegmentsAreRefused) {
  std::vector<journal::Record> all = EveryKind();
  all.push_back(Granted(1, 15, 110, 76, 0));
  all.push_back(Granted(1, 16, 111, 77, 0));
  all.push_back(Granted(1, 17, 112, 77, 1024));
  ExpectContradiction(all, Claimed("qwen", 1001, 1), "name that is claimed");
  ExpectContradiction(all, Claimed("", 1001, 1), "no name");
  ExpectContradiction(all, Claimed("x", 1001, 3), "session that does not exist");
  ExpectContradiction(all, ClaimEnded("qwen", 1000), "claim that does not exist");
  ExpectContradiction(all, Published("llama", 1000, 1, 15, 76), "name in use");
  ExpectContradiction(all, Published("", 1000, 1, 15, 76), "no name");
  ExpectContradiction(all, Published("qwen", 1001, 1, 15, 76), "another session has claimed");
  ExpectContradiction(all, Published("x", 1000, 3, 15, 76), "session that does not exist");
  ExpectContradiction(all, Published("x", 1000, 1, 20, 72), "does not hold");
  ExpectContradiction(all, Published("x", 1000, 1, 15, 77), "not the one");
  ExpectContradiction(all, Published("x", 1000, 1, 16, 77), "not alone");
  ExpectContradiction(all, Published("x", 1000, 0, 15, 76), "from no session");
  ExpectContradiction(all, Unpublished("qwen", 1000), "segment that does not exist");
  ExpectContradiction(all, Attached("qwen", 1000, 1, 60), "segment that does not exist");
  ExpectContradiction(all, Attached("llama", 1000, 3, 60), "session that does not exist");
  ExpectContradiction(all, Attached("llama", 1000, 1, 40), "id that is in use");
  ExpectContradiction(all, Attached("llama", 1000, 1, 0), "without an id");
  ExpectContradiction(all, Detached(1, 40), "does not have");
  ExpectContradiction(all, Detached(3, 40), "session that does not exist");
  journal::Record twice = Published("x", 1000, 1, 15, 76);
  twice.mutable_segment_published()->add_allocation_ids(15);
  *twice.mutable_segment_published()->mutable_segment()->add_blocks() =
      twice.segment_published().segment().blocks(0);
  ExpectContradiction(all, twice, "does not hold");
  journal::Record outside = Published("x", 1000, 1, 15, 76);
  outside.mutable_segment_published()->mutable_segment()->mutable_tensors(0)->set_offset_bytes(
      std::numeric_limits<uint64_t>::max());
  ExpectContradiction(all, outside, "outside its block");
  journal::Record carried = Published("x", 1000, 0, 0, 78);
  carried.mutable_segment_published()->clear_allocation_ids();
  *carried.mutable_segment_published()->mutable_segment()->add_blocks() =
      carried.segment_published().segment().blocks(0);
  ExpectContradiction(all, carried, "overlap");
}

TEST(JournalStateTest, EveryOpeningIsOfTheSameBootAndDevice) {
  journal::Opening other = OpeningOfLife(9);
  other.set_boot_id("another");
  ExpectContradiction(EveryKind(), Opened(other), "another boot");
  ExpectContradiction(EveryKind(), Opened(OpeningOfLife(0)), "epoch");
  ExpectContradiction(EveryKind(), Opened(OpeningOfLife(0x10000)), "epoch");
  journal::Opening none = OpeningOfLife(9);
  none.set_format(0);
  ExpectContradiction(EveryKind(), Opened(none), "format");
}

}  // namespace
}  // namespace tenure::server
