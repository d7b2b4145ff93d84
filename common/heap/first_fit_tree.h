// A search tree that finds the lowest slot whose number is large enough.
#ifndef COMMON_HEAP_FIRST_FIT_TREE_H_
#define COMMON_HEAP_FIRST_FIT_TREE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/check.h"

namespace tenure::heap {

// One number per slot. Finds the lowest slot whose number is at least a given value.
//
// Hides: a complete binary tree in which each node holds the largest number below it.
//
// Invariants: every inner node is the maximum of its two children.
//
// Cost: O(log n) for n slots.
//
// Thread safety: thread-compatible.
class FirstFitTree {
 public:
  // Slots never set count as 0.
  void Set(uint32_t slot, uint32_t value) {
    if (slot >= leaves_) Grow(slot);
    size_t node = leaves_ + slot;
    nodes_[node] = value;
    while (node > 1) {
      node /= 2;
      const uint32_t larger = std::max(nodes_[2 * node], nodes_[2 * node + 1]);
      // The nodes from here to the root are unchanged.
      if (nodes_[node] == larger) break;
      nodes_[node] = larger;
    }
  }

  uint32_t Get(uint32_t slot) const { return slot < leaves_ ? nodes_[leaves_ + slot] : 0; }

  // The lowest slot that has at least `value`; nullopt when there is none.
  // REQUIRES: `value` is positive. Slots that were never set would match 0.
  std::optional<uint32_t> First(uint32_t value) const {
    TENURE_DCHECK(value > 0);
    if (nodes_[1] < value) return std::nullopt;
    size_t node = 1;
    // The left child has the lower slots. If it is too small, the right one is large enough,
    // because their parent is.
    while (node < leaves_) node = nodes_[2 * node] >= value ? 2 * node : 2 * node + 1;
    return static_cast<uint32_t>(node - leaves_);
  }

  // Aborts unless the invariants hold.
  void CheckInvariants() const {
    TENURE_CHECK(nodes_.size() == 2 * leaves_);
    for (size_t node = 1; node < leaves_; ++node) {
      TENURE_CHECK(nodes_[node] == std::max(nodes_[2 * node], nodes_[2 * node + 1]));
    }
  }

 private:
  void Grow(uint32_t slot) {
    const std::vector<uint32_t> values(nodes_.begin() + static_cast<ptrdiff_t>(leaves_),
                                       nodes_.end());
    while (leaves_ <= slot) leaves_ *= 2;
    nodes_.assign(2 * leaves_, 0);
    std::copy(values.begin(), values.end(), nodes_.begin() + static_cast<ptrdiff_t>(leaves_));
    for (size_t node = leaves_ - 1; node > 0; --node) {
      nodes_[node] = std::max(nodes_[2 * node], nodes_[2 * node + 1]);
    }
  }

  size_t leaves_ = 1;
  std::vector<uint32_t> nodes_ = {0, 0};  // node i has the children 2i and 2i + 1; the root is 1
};

}  // namespace tenure::heap

#endif  // COMMON_HEAP_FIRST_FIT_TREE_H_
