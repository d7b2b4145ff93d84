#include "client/session/wire.h"

namespace tenure {

v1::Placement ToWire(Placement placement) {
  switch (placement) {
    case Placement::kDefault:
      return v1::PLACEMENT_UNSPECIFIED;
    case Placement::kPool:
      return v1::PLACEMENT_POOL;
    case Placement::kDirect:
      return v1::PLACEMENT_DIRECT;
  }
  return v1::PLACEMENT_UNSPECIFIED;
}

v1::MemoryKind ToWire(MemoryKind kind) {
  return kind == MemoryKind::kVmmFd ? v1::MEMORY_KIND_VMM_FD : v1::MEMORY_KIND_CUDA_IPC;
}

MemoryKind FromWire(v1::MemoryKind kind) {
  return kind == v1::MEMORY_KIND_VMM_FD ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
}

v1::SegmentTensor ToWire(const SegmentTensor& tensor) {
  v1::SegmentTensor wire;
  wire.set_name(tensor.name);
  wire.set_dtype(tensor.dtype);
  wire.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  wire.set_block(tensor.block);
  wire.set_offset_bytes(tensor.offset.value());
  wire.set_size_bytes(tensor.size.value());
  return wire;
}

SegmentTensor FromWire(const v1::SegmentTensor& wire) {
  SegmentTensor tensor;
  tensor.name = wire.name();
  tensor.dtype = wire.dtype();
  tensor.shape.assign(wire.shape().begin(), wire.shape().end());
  tensor.block = wire.block();
  tensor.offset = Bytes(wire.offset_bytes());
  tensor.size = Bytes(wire.size_bytes());
  return tensor;
}

}  // namespace tenure
