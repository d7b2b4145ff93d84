#include "common/heap/slab.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "common/check.h"

namespace tenure::heap {

Slab::Slab(Bytes start, Bytes block_size, uint32_t capacity)
    : start_(static_cast<uint32_t>(start.value() / kUnit)),
      block_units_(static_cast<uint32_t>(block_size.value() / kUnit)),
      capacity_(static_cast<uint16_t>(capacity)),
      free_blocks_(static_cast<uint16_t>(capacity)) {
  TENURE_CHECK(start.value() % kUnit == 0 &&
               start.value() / kUnit <= std::numeric_limits<uint32_t>::max());
  TENURE_CHECK(block_size.value() % kUnit == 0 && block_units_ == block_size.value() / kUnit &&
               block_units_ > 0);
  TENURE_CHECK(capacity > 0 && capacity <= kMaxBlocks);
  // One bit for each block, set while it is free. The bits beyond the capacity stay 0, so that Take
  // finds no such block.
  for (uint32_t word = 0; word < free_.size() && 64 * word < capacity; ++word) {
    const uint32_t bits = std::min(capacity - 64 * word, uint32_t{64});
    free_[word] = ~uint64_t{0} >> (64 - bits);
  }
}

void Slab::CheckInvariants() const {
  uint32_t free_blocks = 0;
  for (uint32_t word = 0; word < free_.size(); ++word) {
    free_blocks += static_cast<uint32_t>(std::popcount(free_[word]));
    const uint32_t first_bit = 64 * word;
    if (first_bit + 64 <= capacity_) continue;
    const uint32_t valid = capacity_ > first_bit ? capacity_ - first_bit : 0;
    TENURE_CHECK((free_[word] >> valid) == 0);
  }
  TENURE_CHECK(free_blocks == free_blocks_ && free_blocks_ <= capacity_);
}

}  // namespace tenure::heap
