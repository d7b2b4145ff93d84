// The positions of a segment's tensors and blocks, as plain values.
#ifndef CLIENT_SEGMENT_LAYOUT_H_
#define CLIENT_SEGMENT_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/memory_kind.h"

namespace tenure {

// The position of a tensor in its segment.
struct SegmentTensor {
  std::string name;   // at most 256 bytes (kMaxTensorName)
  std::string dtype;  // as safetensors spells it: "F32", "BF16"; at most 16 bytes (kMaxTensorDtype)
  std::vector<uint64_t> shape;  // at most 8 dimensions (kMaxTensorDimensions)
  uint32_t block = 0;           // index into the segment's blocks
  Bytes offset;                 // from the block's beginning
  Bytes size;
  // The address in this process; 0 in one that maps nothing. Ignored by Publish.
  cuda::DevicePointer pointer = 0;
};

struct SegmentBlock {
  // The address in this process; 0 in one that maps nothing.
  cuda::DevicePointer pointer = 0;
  Bytes size;
  MemoryKind kind = MemoryKind::kCudaIpc;
};

}  // namespace tenure

#endif  // CLIENT_SEGMENT_LAYOUT_H_
