// BlockHeap compared with a plain map of live blocks, under random loads.
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "common/heap/block_heap.h"

namespace tenure::heap {
namespace {

class RandomBlocks : public testing::TestWithParam<uint64_t> {
 protected:
  using Key = std::pair<uint32_t, uint64_t>;  // region, offset

  // Enough for several regions, few enough to recount everything after each step.
  static constexpr size_t kMostBlocks = 120;

  void Step(int step);
  void Allocate();
  void FreeLive();
  void FreeNonsense();
  void RemoveAnEmptyRegion();
  void Expect(const Place& place, Bytes size, Bytes alignment);
  bool IsLive(uint32_t region) const;

  std::mt19937_64 random_{GetParam()};
  const uint64_t largest_ = GetParam() % 2 == 0 ? MiB(1).value() : KiB(40).value();
  BlockHeap heap_;
  std::map<Key, uint64_t> live_;          // to block size
  std::map<uint32_t, uint64_t> regions_;  // to region size
  uint64_t allocated_ = 0;
  uint64_t refused_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomBlocks, testing::Range<uint64_t>(1, 22));

bool RandomBlocks::IsLive(uint32_t region) const {
  const auto found = live_.lower_bound({region, 0});
  return found != live_.end() && found->first.first == region;
}

void RandomBlocks::Expect(const Place& place, Bytes size, Bytes alignment) {
  ASSERT_GE(place.size, size);
  ASSERT_EQ(place.offset.value() % alignment.value(), 0u);
  ASSERT_EQ(place.offset.value() % kMinAlignment.value(), 0u);
  ASSERT_TRUE(regions_.contains(place.region));
  ASSERT_LE((place.offset + place.size).value(), regions_[place.region]);
  const auto after = live_.lower_bound({place.region, place.offset.value()});
  if (after != live_.end() && after->first.first == place.region) {
    ASSERT_LE((place.offset + place.size).value(), after->first.second)
        << "overlaps the next block";
  }
  if (after == live_.begin()) return;
  const auto& [key, length] = *std::prev(after);
  if (key.first == place.region) {
    ASSERT_LE(key.second + length, place.offset.value()) << "overlaps the block before";
  }
}

void RandomBlocks::Allocate() {
  const Bytes size(1 + random_() % (1 + random_() % largest_));
  const Bytes alignment(random_() % 4 > 0 ? 256 : uint64_t{1} << (random_() % 21));
  std::optional<Place> place = heap_.Allocate(size, alignment);
  if (!place) {
    ++refused_;
    // In some steps the driver has no more memory.
    if (random_() % 4 == 0) return;
    uint32_t key = static_cast<uint32_t>(random_());
    while (regions_.contains(key)) ++key;
    regions_[key] = random_() % 2 == 0 ? MiB(2).value() : MiB(4).value();
    heap_.AddRegion(key, Bytes(regions_[key]));
    place = heap_.Allocate(size, alignment);
    ASSERT_TRUE(place) << "no room in a fresh region";
  }
  Expect(*place, size, alignment);
  live_.emplace(Key{place->region, place->offset.value()}, place->size.value());
  allocated_ += place->size.value();
}

void RandomBlocks::FreeLive() {
  if (live_.empty()) return;
  const uint32_t region =
      std::next(regions_.begin(), static_cast<ptrdiff_t>(random_() % regions_.size()))->first;
  auto victim = live_.lower_bound({region, random_() % regions_[region]});
  if (victim == live_.end()) victim = live_.begin();
  const auto [key, size] = *victim;
  live_.erase(victim);
  allocated_ -= size;
  const FreeResult expected = IsLive(key.first) ? FreeResult::kFreed : FreeResult::kRegionEmptied;
  ASSERT_EQ(heap_.Free(key.first, Bytes(key.second)), expected);
  ASSERT_EQ(heap_.Free(key.first, Bytes(key.second)), FreeResult::kNotABlock) << "freed twice";
}

void RandomBlocks::FreeNonsense() {
  if (live_.empty()) return;
  const auto& [key, size] = *live_.begin();
  const uint64_t inside = 1 + random_() % (size - 1);
  ASSERT_EQ(heap_.Free(key.first, Bytes(key.second + inside)), FreeResult::kNotABlock);
  const uint64_t anywhere = random_() % MiB(3).value() / 256 * 256;
  if (!live_.contains({key.first, anywhere})) {
    ASSERT_EQ(heap_.Free(key.first, Bytes(anywhere)), FreeResult::kNotABlock);
  }
}

void RandomBlocks::RemoveAnEmptyRegion() {
  const std::vector<uint32_t> empty = heap_.EmptyRegions();
  size_t expected = 0;
  for (const auto& [key, size] : regions_) expected += IsLive(key) ? 0u : 1u;
  ASSERT_EQ(empty.size(), expected);
  if (empty.empty()) return;
  const uint32_t key = empty[random_() % empty.size()];
  ASSERT_FALSE(IsLive(key));
  heap_.RemoveRegion(key);
  regions_.erase(key);
}

void RandomBlocks::Step(int step) {
  const uint64_t draw = random_() % 100;
  const uint64_t growth = step / 1000 % 2 == 0 ? 60 : 35;
  if (draw < growth && live_.size() < kMostBlocks) {
    Allocate();
  } else if (draw < 95) {
    FreeLive();
  } else if (draw < 98) {
    FreeNonsense();
  } else {
    RemoveAnEmptyRegion();
  }
}

TEST_P(RandomBlocks, AgreeWithAPlainMapAndLeaveEveryRegionRemovable) {
  SCOPED_TRACE(testing::Message() << "seed " << GetParam());
  for (int step = 0; step < 20000; ++step) {
    Step(step);
    if (HasFatalFailure()) FAIL() << "at step " << step;
    heap_.CheckInvariants();
    ASSERT_EQ(heap_.allocated_bytes(), Bytes(allocated_)) << "step " << step;
  }
  EXPECT_GT(refused_, 0u);
  while (!live_.empty()) FreeLive();
  heap_.CheckInvariants();
  EXPECT_EQ(heap_.EmptyRegions().size(), regions_.size());
  for (const auto& [key, size] : regions_) heap_.RemoveRegion(key);
  heap_.CheckInvariants();
  EXPECT_EQ(heap_.region_bytes(), Bytes(0));
  EXPECT_TRUE(heap_.Stats().pools.empty());
}

}  // namespace
}  // namespace tenure::heap
