// The block sizes to which small requests are rounded.
#ifndef COMMON_HEAP_SIZE_CLASSES_H_
#define COMMON_HEAP_SIZE_CLASSES_H_

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/bytes.h"

namespace tenure::heap {

// Every block starts at a multiple of this, and its size is one. cuMemAlloc promises the same
// alignment for its own allocations.
inline constexpr Bytes kMinAlignment{256};

// The largest block that comes from a pool. With eight classes per doubling below it and 2 MiB
// regions above it a request wastes at most 12.5 % in a pool, and a larger one is worth a region of
// its own.
inline constexpr Bytes kMaxSmallBlock = MiB(1);

// Multiples of 256 B up to 4 KiB, then eight classes per doubling. The table is fixed at compile
// time and does not follow the load, so that both sides of the wire, the statistics and their
// readers see the same few sizes.
inline constexpr size_t kSizeClassCount = 80;

// One row of the table.
// Thread safety: immutable value.
struct SizeClass {
  uint8_t index = 0;
  constexpr auto operator<=>(const SizeClass&) const = default;
};

namespace internal {

constexpr std::array<uint32_t, kSizeClassCount> BlockSizes() {
  std::array<uint32_t, kSizeClassCount> sizes = {};
  for (uint32_t index = 0; index < kSizeClassCount; ++index) {
    const uint32_t doubling = index < 16 ? 0 : index / 8 - 1;
    sizes[index] = ((index + 1 - 8 * doubling) << doubling) * 256;
  }
  return sizes;
}
inline constexpr std::array<uint32_t, kSizeClassCount> kBlockSizes = BlockSizes();
static_assert(kBlockSizes.front() == kMinAlignment.value());
static_assert(kBlockSizes.back() == kMaxSmallBlock.value());

}  // namespace internal

constexpr Bytes BlockSize(SizeClass size_class) {
  return Bytes(internal::kBlockSizes[size_class.index]);
}

// The smallest class whose blocks hold `size` bytes and are a multiple of `alignment`, so that
// all blocks of an aligned slab are aligned. An alignment below 256 counts as 256; a size of zero
// gets the smallest block. nullopt when either is above 1 MiB: such a block is a region of its own.
// REQUIRES: `alignment` is a power of two.
constexpr std::optional<SizeClass> ClassFor(Bytes size, Bytes alignment) {
  TENURE_CHECK(IsPowerOfTwo(alignment.value()));
  if (size > kMaxSmallBlock || alignment > kMaxSmallBlock) return std::nullopt;
  // Rounding to the alignment first is enough. Where a class's step is at least the alignment,
  // every class near is a multiple of it; where it is smaller, the rounded size is itself a class.
  const Bytes rounded = *RoundUp(std::max(size, Bytes(1)), std::max(alignment, kMinAlignment));
  const uint32_t last_unit = static_cast<uint32_t>(rounded.value() / 256) - 1;
  const uint32_t width = static_cast<uint32_t>(std::bit_width(last_unit));
  const uint32_t doubling = width > 4 ? width - 4 : 0;
  return SizeClass{static_cast<uint8_t>(8 * doubling + (last_unit >> doubling))};
}

}  // namespace tenure::heap

#endif  // COMMON_HEAP_SIZE_CLASSES_H_
