#include "server/identity/slot_table.h"

#include <memory>
#include <set>
#include <utility>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

TEST(SlotTableTest, AnIdNamesItsValueUntilItIsTakenAndNothingAfterwards) {
  SlotTable<std::unique_ptr<int>> table(3);
  const uint64_t first = *table.Insert(std::make_unique<int>(1));
  const uint64_t second = *table.Insert(std::make_unique<int>(2));
  EXPECT_EQ(**table.Find(first), 1);
  EXPECT_EQ(*table.Take(first), 1);
  EXPECT_EQ(table.Find(first), nullptr);
  const uint64_t third = *table.Insert(std::make_unique<int>(3));
  EXPECT_EQ(table.Find(first), nullptr) << "the slot serves again, the id does not";
  EXPECT_EQ(**table.Find(second), 2);
  EXPECT_EQ(**table.Find(third), 3);
  EXPECT_EQ(table.size(), 2u);
}

TEST(SlotTableTest, IdsCarryTheEpochAndAnotherEpochsIdsNameNothing) {
  SlotTable<int> table(3);
  SlotTable<int> later(4);
  const uint64_t id = *table.Insert(1);
  later.Insert(1);
  EXPECT_EQ(EpochOf(id), 3);
  EXPECT_EQ(later.Find(id), nullptr);
  EXPECT_EQ(table.Find(0), nullptr);
  EXPECT_EQ(table.Find(~uint64_t{0}), nullptr);
}

TEST(SlotTableTest, IdsOfOneSlotAreNotUsedAgainSoon) {
  SlotTable<int> table(1);
  std::set<uint64_t> seen;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t id = *table.Insert(0);
    EXPECT_TRUE(seen.insert(id).second);
    table.Take(id);
  }
}

TEST(SlotTableTest, RestoredValuesKeepTheirIdsWhateverSlotsTheyHad) {
  SlotTable<int> before(6);
  const uint64_t gone = *before.Insert(1);
  before.Take(gone);
  const uint64_t there = *before.Insert(2);
  ASSERT_NE(gone, there);
  SlotTable<int> table(7);
  const uint64_t fresh = *table.Insert(3);
  table.Restore(there, 2);
  table.Restore(gone, 1);
  EXPECT_EQ(table.size(), 3u);
  for (const auto& [id, value] : {std::pair(gone, 1), std::pair(there, 2), std::pair(fresh, 3)}) {
    ASSERT_NE(table.Find(id), nullptr);
    EXPECT_EQ(*table.Find(id), value);
  }
  // In pages of one, each is visited once.
  std::set<uint64_t> seen;
  uint64_t first = 0;
  for (bool more = true; more;) {
    more = false;
    table.ForEach(
        [&](uint64_t id, int) {
          first = table.Place(id);
          more = !seen.contains(id);
          return !seen.insert(id).second;
        },
        first);
  }
  EXPECT_EQ(seen, (std::set<uint64_t>{gone, there, fresh}));
  EXPECT_EQ(table.Take(gone), 1);
  EXPECT_EQ(table.Find(gone), nullptr);
}

}  // namespace
}  // namespace tenure::server
