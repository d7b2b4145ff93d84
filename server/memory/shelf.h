// Clean regions of one memory kind, found by size.
#ifndef SERVER_MEMORY_SHELF_H_
#define SERVER_MEMORY_SHELF_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "common/bytes.h"
#include "server/memory/region.h"

namespace tenure::server {

// How many regions of each size are wanted. A size that is missing here is wanted nowhere.
using RegionPlan = std::map<Bytes, uint64_t>;

// A stack of regions for each size. Every grant searches here, and there are few sizes but many
// regions of each. One entry per size therefore keeps the search short.
//
// Hides: a stack gives out the region that came last. Which one is given out makes no difference to
// its content, since all are clean; the end of a vector is the cheap one.
//
// Invariants: no stack is empty.
// Owns: the regions on it. It is empty when it is destroyed.
// Thread safety: thread-compatible.
class Shelf {
 public:
  void Put(Region region);
  // The smallest region of `at_least` to `at_most` bytes; nullopt when there is none.
  std::optional<Region> Take(Bytes at_least, Bytes at_most);
  // The largest region of a size of which there are more than `plan` wants; nullopt when there is
  // none.
  std::optional<Region> TakeLargestBeyond(const RegionPlan& plan);
  // All regions. The shelf is empty afterwards.
  std::vector<Region> TakeAll();

  // How many regions of exactly this size there are.
  size_t Count(Bytes size) const;
  // The bytes of all regions, recounted.
  Bytes Sum() const;

 private:
  std::map<Bytes, std::vector<Region>> by_size_;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_SHELF_H_
