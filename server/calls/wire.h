// Conversions between the daemon's types and messages of tenure.v1, once for each type.
#ifndef SERVER_CALLS_WIRE_H_
#define SERVER_CALLS_WIRE_H_

#include <cstdint>

#include "absl/time/time.h"

#include "common/heap/block_heap.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"
#include "server/leases/recovery.h"
#include "server/leases/segment_table.h"
#include "tenure/v1/allocator.pb.h"
#include "tenure/v1/stats.pb.h"

namespace tenure::server {

// Each of these messages is written here and nowhere else; the handlers write the fields of other
// responses. FromWire copies fields as they are: the handler checks them first.
//
// Thread safety: thread-safe.
// Errors: none.

v1::Token ToWire(const Grant& grant);
v1::SegmentTensor ToWire(const SegmentTensor& tensor);
SegmentTensor FromWire(const v1::SegmentTensor& tensor);
v1::AttachSegmentResponse::Block ToWire(const SegmentGrant::Block& block);
v1::AttachSegmentResponse ToWire(const SegmentGrant& grant);

v1::Session ToWire(const SessionInfo& info);
v1::Quarantine ToWire(const QuarantineInfo& info);
v1::Allocation ToWire(const AllocationInfo& info);
v1::Segment ToWire(const SegmentInfo& info);
v1::Pool ToWire(const heap::PoolStats& stats);
v1::Totals ToWire(const LeaseTotals& leases);
v1::Recovered ToWire(const RecoveryReport& report);

// REQUIRES: not negative.
uint64_t ToWireMilliseconds(absl::Duration duration);

}  // namespace tenure::server

#endif  // SERVER_CALLS_WIRE_H_
