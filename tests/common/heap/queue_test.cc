// The two orders by which BlockHeap finds its slabs and regions.
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "common/heap/first_fit_tree.h"
#include "common/heap/indexed_heap.h"

namespace tenure::heap {
namespace {

class RandomOrder : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomOrder, testing::Range<uint64_t>(1, 21));

TEST_P(RandomOrder, IndexedHeapAgreesWithASortedSet) {
  constexpr uint32_t kItems = 200;
  std::mt19937_64 random(GetParam());
  std::vector<uint32_t> positions(kItems, kNotQueued);
  std::vector<uint64_t> keys(kItems, 0);
  const auto position = [&positions](uint32_t item) -> uint32_t& { return positions[item]; };
  IndexedHeap heap;
  std::set<uint64_t> sorted;
  for (int step = 0; step < 20000; ++step) {
    const uint32_t item = static_cast<uint32_t>(random() % kItems);
    if (positions[item] == kNotQueued) {
      keys[item] = (random() % 1000) << 32 | item;
      heap.Insert(keys[item], item, position);
      sorted.insert(keys[item]);
    } else {
      heap.Remove(item, position);
      sorted.erase(keys[item]);
      ASSERT_EQ(positions[item], kNotQueued);
    }
    ASSERT_EQ(heap.size(), sorted.size());
    ASSERT_TRUE(sorted.empty() || keys[heap.top()] == *sorted.begin()) << "step " << step;
    if (step % 16 == 0) {
      heap.CheckInvariants(position, [&keys](uint32_t queued) { return keys[queued]; });
    }
  }
  while (!heap.empty()) {
    ASSERT_EQ(keys[heap.top()], *sorted.begin());
    sorted.erase(sorted.begin());
    heap.Remove(heap.top(), position);
  }
  EXPECT_TRUE(sorted.empty());
}

TEST_P(RandomOrder, FirstFitTreeAgreesWithALinearSearch) {
  std::mt19937_64 random(GetParam());
  const uint32_t slots = static_cast<uint32_t>(1 + random() % 70);
  std::vector<uint32_t> values(slots, 0);
  FirstFitTree tree;
  for (int step = 0; step < 20000; ++step) {
    const uint32_t slot = static_cast<uint32_t>(random() % slots);
    values[slot] = static_cast<uint32_t>(random() % 65);
    tree.Set(slot, values[slot]);
    tree.CheckInvariants();
    const uint32_t wanted = static_cast<uint32_t>(1 + random() % 66);
    std::optional<uint32_t> expected;
    for (uint32_t i = 0; i < slots && !expected; ++i) {
      if (values[i] >= wanted) expected = i;
    }
    ASSERT_EQ(tree.First(wanted), expected) << "step " << step;
    ASSERT_EQ(tree.Get(slot), values[slot]);
  }
}

TEST(FirstFitTree, UnknownSlotsHaveNothing) {
  FirstFitTree tree;
  EXPECT_EQ(tree.First(1), std::nullopt);
  tree.Set(5, 3);
  EXPECT_EQ(tree.Get(4), 0u);
  EXPECT_EQ(tree.Get(5000), 0u);
  EXPECT_EQ(tree.First(3), 5u);
  EXPECT_EQ(tree.First(4), std::nullopt);
}

}  // namespace
}  // namespace tenure::heap
