// A priority queue from which any item can be removed, not only the first.
#ifndef COMMON_HEAP_INDEXED_HEAP_H_
#define COMMON_HEAP_INDEXED_HEAP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/check.h"

namespace tenure::heap {

// The position of an item that is in no queue.
inline constexpr uint32_t kNotQueued = ~uint32_t{0};

// A binary heap of (key, item) with the smallest key on top. Items are indices into a table of the
// caller. `position(item)` returns a uint32_t& in that table, in which the queue keeps the item's
// place, so that Remove need not search for it.
//
// REQUIRES: position(item) is kNotQueued before Insert, and the caller does not change it while the
// item is in the queue.
//
// Invariants:
//   1. No key is smaller than its parent's.
//   2. position(item) is the item's place, kNotQueued after Remove.
//
// Cost: O(log n), and no allocation of host memory below the largest size so far. A tree of the
// standard library would allocate a node whenever a block of a full slab is freed.
//
// Thread safety: thread-compatible.
class IndexedHeap {
 public:
  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  uint32_t top() const { return entries_.front().item; }

  template <typename Position>
  void Insert(uint64_t key, uint32_t item, Position position) {
    TENURE_DCHECK(position(item) == kNotQueued);
    entries_.push_back(Entry{key, item});
    SiftUp(entries_.size() - 1, position);
  }

  template <typename Position>
  void Remove(uint32_t item, Position position) {
    const size_t place = position(item);
    TENURE_CHECK(place < entries_.size() && entries_[place].item == item);
    position(item) = kNotQueued;
    const Entry last = entries_.back();
    entries_.pop_back();
    if (place == entries_.size()) return;
    // The last entry fills the gap. It may come from another branch of the heap, so its key may be
    // smaller than that of its new parent as well as larger than those of its new children.
    entries_[place] = last;
    if (place > 0 && last.key < entries_[(place - 1) / 2].key) {
      SiftUp(place, position);
    } else {
      SiftDown(place, position);
    }
  }

  // Aborts unless the invariants hold. `key(item)` restates what the item's key should be.
  template <typename Position, typename Key>
  void CheckInvariants(Position position, Key key) const {
    for (size_t i = 0; i < entries_.size(); ++i) {
      TENURE_CHECK(i == 0 || entries_[(i - 1) / 2].key <= entries_[i].key);
      TENURE_CHECK(position(entries_[i].item) == i && key(entries_[i].item) == entries_[i].key);
    }
  }

 private:
  struct Entry {
    uint64_t key;
    uint32_t item;
  };

  template <typename Position>
  void Put(size_t place, const Entry& entry, Position position) {
    entries_[place] = entry;
    position(entry.item) = static_cast<uint32_t>(place);
  }

  template <typename Position>
  void SiftUp(size_t place, Position position) {
    const Entry entry = entries_[place];
    while (place > 0 && entry.key < entries_[(place - 1) / 2].key) {
      Put(place, entries_[(place - 1) / 2], position);
      place = (place - 1) / 2;
    }
    Put(place, entry, position);
  }

  template <typename Position>
  void SiftDown(size_t place, Position position) {
    const Entry entry = entries_[place];
    for (size_t child = 2 * place + 1; child < entries_.size(); child = 2 * place + 1) {
      if (child + 1 < entries_.size() && entries_[child + 1].key < entries_[child].key) ++child;
      if (entry.key <= entries_[child].key) break;
      Put(place, entries_[child], position);
      place = child;
    }
    Put(place, entry, position);
  }

  std::vector<Entry> entries_;
};

}  // namespace tenure::heap

#endif  // COMMON_HEAP_INDEXED_HEAP_H_
