#include "server/memory/shelf.h"

#include <utility>

namespace tenure::server {

void Shelf::Put(Region region) { by_size_[region.size()].push_back(std::move(region)); }

std::optional<Region> Shelf::Take(Bytes at_least, Bytes at_most) {
  const auto stack = by_size_.lower_bound(at_least);
  if (stack == by_size_.end() || stack->first > at_most) return std::nullopt;
  Region region = std::move(stack->second.back());
  stack->second.pop_back();
  // An empty stack would be found by the next search, which would then take from nothing.
  if (stack->second.empty()) by_size_.erase(stack);
  return region;
}

std::optional<Region> Shelf::TakeLargestBeyond(const RegionPlan& plan) {
  for (auto stack = by_size_.rbegin(); stack != by_size_.rend(); ++stack) {
    const auto planned = plan.find(stack->first);
    if (planned != plan.end() && stack->second.size() <= planned->second) continue;
    // Take() may erase the stack, so the iterator is not used after this line.
    return Take(stack->first, stack->first);
  }
  return std::nullopt;
}

std::vector<Region> Shelf::TakeAll() {
  std::vector<Region> all;
  for (auto& [size, stack] : by_size_) {
    for (Region& region : stack) all.push_back(std::move(region));
  }
  // The stacks hold regions that were moved from, which may be destroyed.
  by_size_.clear();
  return all;
}

size_t Shelf::Count(Bytes size) const {
  const auto stack = by_size_.find(size);
  return stack == by_size_.end() ? 0 : stack->second.size();
}

Bytes Shelf::Sum() const {
  Bytes sum;
  for (const auto& [size, stack] : by_size_) {
    TENURE_CHECK(!stack.empty());
    for (const Region& region : stack) {
      TENURE_CHECK(region.size() == size);
      sum += size;
    }
  }
  return sum;
}

}  // namespace tenure::server
