// The values of this library as the messages of tenure.v1, and back.
#ifndef CLIENT_SESSION_WIRE_H_
#define CLIENT_SESSION_WIRE_H_

#include "client/options.h"
#include "client/segment_layout.h"
#include "common/memory_kind.h"
#include "tenure/v1/allocator.pb.h"

namespace tenure {

v1::Placement ToWire(Placement placement);
v1::MemoryKind ToWire(MemoryKind kind);
// Without the pointer, which is of no use to another process.
v1::SegmentTensor ToWire(const SegmentTensor& tensor);

// A kind that this library does not know is taken for CUDA_IPC; MapRegion refuses it.
MemoryKind FromWire(v1::MemoryKind kind);
// The pointer is 0.
SegmentTensor FromWire(const v1::SegmentTensor& tensor);

}  // namespace tenure

#endif  // CLIENT_SESSION_WIRE_H_
