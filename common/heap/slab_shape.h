// The length of a slab of each size class.
#ifndef COMMON_HEAP_SLAB_SHAPE_H_
#define COMMON_HEAP_SLAB_SHAPE_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "common/bytes.h"
#include "common/heap/size_classes.h"
#include "common/heap/slab.h"

namespace tenure::heap {

// Slabs start at multiples of this, and their length is one. A smaller unit would cost more books,
// four bytes per unit; a larger one would leave more of a small slab unused.
inline constexpr Bytes kSpanUnit = KiB(16);

struct SlabShape {
  uint32_t units = 0;   // of kSpanUnit
  uint32_t blocks = 0;  // that fit
};

// The shortest slab for `blocks` blocks, with as many more as fit.
constexpr SlabShape ShapeFor(Bytes block_size, uint64_t blocks) {
  const uint64_t units =
      RoundUp(Bytes(blocks * block_size.value()), kSpanUnit)->value() / kSpanUnit.value();
  const uint64_t fit = units * kSpanUnit.value() / block_size.value();
  return {static_cast<uint32_t>(units),
          static_cast<uint32_t>(std::min<uint64_t>(fit, Slab::kMaxBlocks))};
}

namespace internal {

// How many fiftieths of the slab hold no block.
constexpr uint64_t UnusedShare(SlabShape shape, Bytes block_size) {
  const uint64_t bytes = shape.units * kSpanUnit.value();
  return (bytes - shape.blocks * block_size.value()) * 50 / bytes;
}

// The largest slab of a class: 64 KiB of small blocks, four of larger ones up to 512 KiB, a single
// block beyond that. A slab of this length is cut rarely, and a class with one live block does not
// hold much. If that leaves 2 % or more of the slab unused, up to twice as many blocks are tried.
constexpr SlabShape BestShape(Bytes block_size) {
  const uint64_t aim =
      std::max(KiB(64).value(), std::min(4 * block_size.value(), KiB(512).value()));
  const uint64_t fewest = std::max<uint64_t>(aim / block_size.value(), 1);
  SlabShape best = ShapeFor(block_size, fewest);
  for (uint64_t blocks = fewest + 1; blocks <= 2 * fewest; ++blocks) {
    const SlabShape shape = ShapeFor(block_size, blocks);
    if (UnusedShare(shape, block_size) < UnusedShare(best, block_size)) best = shape;
  }
  return best;
}

constexpr std::array<SlabShape, kSizeClassCount> BestShapes() {
  std::array<SlabShape, kSizeClassCount> shapes = {};
  for (uint8_t index = 0; index < kSizeClassCount; ++index) {
    shapes[index] = BestShape(BlockSize(SizeClass{index}));
  }
  return shapes;
}

}  // namespace internal

// By class. Used for a pool that has grown, where there is room; see BlockHeap::NextShape.
inline constexpr std::array<SlabShape, kSizeClassCount> kSlabShapes = internal::BestShapes();

}  // namespace tenure::heap

#endif  // COMMON_HEAP_SLAB_SHAPE_H_
