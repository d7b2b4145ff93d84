// The cost of one Allocate and one Free of a small block, compared with the usual allocator of a
// framework's memory pool: best fit in a std::set, with coalescing. Both run in this process,
// single-threaded and without a lock, on the same sequence of requests. Only their ratio matters.
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "common/bytes.h"
#include "common/heap/block_heap.h"
#include "common/heap/range_heap.h"

namespace tenure::heap {
namespace {

class SetBestFit {
 public:
  using Handle = uint64_t;

  Handle Allocate(Bytes size) {
    const uint64_t length = RoundUp(size, kMinAlignment)->value();
    auto found = by_length_.lower_bound({length, 0});
    if (found == by_length_.end()) {
      AddFree(end_, kGrowth);
      end_ += kGrowth + kMinAlignment.value();  // a gap, as between regions
      found = by_length_.lower_bound({length, 0});
    }
    const auto [free_length, start] = *found;
    by_length_.erase(found);
    by_start_.erase(start);
    if (free_length > length) AddFree(start + length, free_length - length);
    used_.emplace(start, length);
    return start;
  }

  void Free(Handle start) {
    const auto used = used_.find(start);
    uint64_t first = start;
    uint64_t length = used->second;
    used_.erase(used);
    auto after = by_start_.lower_bound(start);
    if (after != by_start_.end() && after->first == start + length) {
      length += after->second;
      by_length_.erase({after->second, after->first});
      after = by_start_.erase(after);
    }
    if (after != by_start_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == start) {
        first = before->first;
        length += before->second;
        by_length_.erase({before->second, before->first});
        by_start_.erase(before);
      }
    }
    AddFree(first, length);
  }

 private:
  static constexpr uint64_t kGrowth = 32 << 20;

  void AddFree(uint64_t start, uint64_t length) {
    by_length_.emplace(length, start);
    by_start_.emplace(start, length);
  }

  std::set<std::pair<uint64_t, uint64_t>> by_length_;
  std::map<uint64_t, uint64_t> by_start_;
  std::map<uint64_t, uint64_t> used_;
  uint64_t end_ = 0;
};

class Blocks {
 public:
  using Handle = Place;

  Handle Allocate(Bytes size) {
    std::optional<Place> place = heap_.Allocate(size);
    if (!place) {
      heap_.AddRegion(next_key_++, heap_.NextRegionSize());
      place = heap_.Allocate(size);
    }
    return *place;
  }

  void Free(const Handle& place) { heap_.Free(place.region, place.offset); }

 private:
  BlockHeap heap_;
  uint32_t next_key_ = 0;
};

class Ranges {
 public:
  using Handle = Bytes;

  Handle Allocate(Bytes size) { return *heap_.Allocate(size, kMinAlignment); }
  void Free(Handle offset) { heap_.Free(offset); }

 private:
  RangeHeap heap_ = RangeHeap(GiB(64));
};

// Computed in advance, so that the random generator is not measured.
constexpr size_t kDraws = 1 << 16;

std::vector<uint32_t> Draws(uint64_t below) {
  std::mt19937_64 random(7);
  std::vector<uint32_t> draws(kDraws);
  for (uint32_t& draw : draws) draw = static_cast<uint32_t>(random() % below);
  return draws;
}

// Many small requests and few large ones: the same number from each doubling between 256 B and
// 1 MiB, without the largest.
std::vector<Bytes> MixedSizes() {
  std::mt19937_64 random(8);
  std::vector<Bytes> sizes(kDraws);
  for (Bytes& size : sizes) {
    const uint64_t doubling = std::min(random() % 13, random() % 13);
    size = Bytes((uint64_t{256} << doubling) - random() % 255);
  }
  return sizes;
}

template <typename Heap, typename SizeOf>
void RunPairs(benchmark::State& state, size_t live_count, SizeOf size_of) {
  Heap heap;
  if (live_count == 0) {
    size_t i = 0;
    for (auto _ : state) {
      const auto block = heap.Allocate(size_of(i++ % kDraws));
      benchmark::DoNotOptimize(block);
      heap.Free(block);
    }
    return;
  }
  std::vector<typename Heap::Handle> live;
  for (size_t i = 0; i < live_count; ++i) live.push_back(heap.Allocate(size_of(i % kDraws)));
  const std::vector<uint32_t> victims = Draws(live_count);
  size_t i = 0;
  for (auto _ : state) {
    auto& block = live[victims[i % kDraws]];
    heap.Free(block);
    block = heap.Allocate(size_of(i % kDraws));
    ++i;
  }
}

// Arguments: block size, live blocks. One iteration frees a random live block and allocates
// another.
template <typename Heap>
void OneSize(benchmark::State& state) {
  const Bytes size(static_cast<uint64_t>(state.range(0)));
  RunPairs<Heap>(state, static_cast<size_t>(state.range(1)), [size](size_t) { return size; });
}

template <typename Heap>
void ManySizes(benchmark::State& state) {
  const std::vector<Bytes> sizes = MixedSizes();
  RunPairs<Heap>(state, static_cast<size_t>(state.range(0)),
                 [&sizes](size_t i) { return sizes[i]; });
}

const std::vector<std::vector<int64_t>> kGrid = {{256, 4 << 10, 64 << 10, 1 << 20},
                                                 {0, 100, 10000}};

BENCHMARK(OneSize<Blocks>)->ArgsProduct(kGrid);
BENCHMARK(OneSize<Ranges>)->ArgsProduct(kGrid);
BENCHMARK(OneSize<SetBestFit>)->ArgsProduct(kGrid);
BENCHMARK(ManySizes<Blocks>)->Arg(0)->Arg(100)->Arg(10000);
BENCHMARK(ManySizes<Ranges>)->Arg(0)->Arg(100)->Arg(10000);
BENCHMARK(ManySizes<SetBestFit>)->Arg(0)->Arg(100)->Arg(10000);

}  // namespace
}  // namespace tenure::heap

BENCHMARK_MAIN();
