#include "server/calls/wire.h"

#include <string>

#include "absl/strings/string_view.h"

#include "common/cuda/ipc_handle.h"
#include "common/memory_kind.h"

namespace tenure::server {
namespace {

// The two fields by which a client maps a region. The message of a token and that of a segment's
// block both have them. A region of kind VMM_FD has no handle: its descriptor travels over the fd
// socket.
template <typename Message>
void SetExport(MemoryKind kind, const cuda::IpcHandle& handle, Message& message) {
  if (kind == MemoryKind::kVmmFd) {
    message.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
    return;
  }
  message.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
  const absl::string_view bytes = handle.AsBytes();
  message.set_ipc_handle(bytes.data(), bytes.size());
}

}  // namespace

uint64_t ToWireMilliseconds(absl::Duration duration) {
  return static_cast<uint64_t>(absl::ToInt64Milliseconds(duration));
}

v1::Token ToWire(const Grant& grant) {
  v1::Token token;
  token.set_allocation_id(grant.allocation);
  token.set_region_id(grant.region);
  token.set_region_size_bytes(grant.region_size.value());
  token.set_offset_bytes(grant.offset.value());
  token.set_size_bytes(grant.size.value());
  SetExport(grant.kind, grant.handle, token);
  return token;
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

SegmentTensor FromWire(const v1::SegmentTensor& tensor) {
  return SegmentTensor{tensor.name(),
                       tensor.dtype(),
                       {tensor.shape().begin(), tensor.shape().end()},
                       tensor.block(),
                       Bytes(tensor.offset_bytes()),
                       Bytes(tensor.size_bytes())};
}

v1::AttachSegmentResponse::Block ToWire(const SegmentGrant::Block& block) {
  v1::AttachSegmentResponse::Block wire;
  wire.set_region_id(block.region);
  wire.set_region_size_bytes(block.region_size.value());
  wire.set_size_bytes(block.size.value());
  SetExport(block.kind, block.handle, wire);
  return wire;
}

v1::AttachSegmentResponse ToWire(const SegmentGrant& grant) {
  v1::AttachSegmentResponse wire;
  wire.set_state(v1::AttachSegmentResponse::STATE_ATTACHED);
  wire.set_attachment_id(grant.attachment);
  wire.set_digest(grant.notes->digest);
  wire.set_survives_daemon(grant.survives_daemon);
  for (const SegmentGrant::Block& block : grant.blocks) *wire.add_blocks() = ToWire(block);
  for (const SegmentTensor& tensor : grant.notes->tensors) *wire.add_tensors() = ToWire(tensor);
  return wire;
}

v1::Session ToWire(const SessionInfo& info) {
  v1::Session session;
  session.set_session_id(info.id);
  const Peer& peer = *info.lease->peer();
  // Read once: another thread may move the lease on between the two fields that depend on it.
  const LeaseState state = info.lease->state();
  session.set_pid(static_cast<uint32_t>(peer.pid()));
  session.set_uid(peer.uid());
  session.set_gid(peer.gid());
  session.set_name(info.lease->name());
  session.set_state(std::string(NameOf(state)));
  if (state == LeaseState::kSuspended) {
    session.set_cause(std::string(NameOf(info.lease->cause())));
  }
  session.set_age_ms(ToWireMilliseconds(info.age));
  // Signed, unlike other times: negative for a lease that is overdue.
  session.set_lease_left_ms(absl::ToInt64Milliseconds(info.lease_left));
  session.set_allocations(info.allocations);
  session.set_allocated_bytes(info.allocated.value());
  session.set_requested_bytes(info.requested.value());
  const SessionPoolStats pool = info.pool->stats();
  // Asked of the pool, under its lock: the registry does not know in which regions the blocks lie.
  session.set_leased_bytes(pool.leased().value());
  session.set_regions(pool.regions());
  session.set_tenant(peer.tenant().ToString());
  return session;
}

v1::Quarantine ToWire(const QuarantineInfo& info) {
  v1::Quarantine quarantine;
  const Peer& peer = *info.lease->peer();
  quarantine.set_session_id(info.session);
  quarantine.set_pid(static_cast<uint32_t>(peer.pid()));
  quarantine.set_tenant(peer.tenant().ToString());
  quarantine.set_name(info.lease->name());
  quarantine.set_state(std::string(NameOf(info.lease->state())));
  quarantine.set_quarantined_bytes(info.bytes.value());
  quarantine.set_regions(info.regions);
  quarantine.set_age_ms(ToWireMilliseconds(info.age));
  quarantine.set_reason(info.reason);
  return quarantine;
}

v1::Allocation ToWire(const AllocationInfo& info) {
  v1::Allocation allocation;
  allocation.set_allocation_id(info.id);
  allocation.set_session_id(info.session);
  allocation.set_pid(static_cast<uint32_t>(info.pid));
  allocation.set_region_id(info.region);
  allocation.set_offset_bytes(info.offset.value());
  allocation.set_size_bytes(info.size.value());
  allocation.set_requested_bytes(info.requested.value());
  allocation.set_memory_kind(std::string(NameOf(info.kind)));
  allocation.set_placement(info.direct ? "direct" : "pool");
  allocation.set_age_ms(ToWireMilliseconds(info.age));
  return allocation;
}

v1::Segment ToWire(const SegmentInfo& info) {
  v1::Segment segment;
  segment.set_name(info.key.name);
  segment.set_owner_uid(info.key.owner);
  if (info.loading != 0) {
    // A claim on the name: nothing else is known before the segment is published.
    segment.set_state("LOADING");
    segment.set_loading_session_id(info.loading);
    return segment;
  }
  segment.set_state("PUBLISHED");
  segment.set_size_bytes(info.size.value());
  segment.set_blocks(info.blocks);
  segment.set_tensors(info.tensors);
  segment.set_memory_kind(std::string(NameOf(info.kind)));
  segment.set_digest(info.digest);
  segment.set_age_ms(ToWireMilliseconds(info.age));
  segment.mutable_allowed_uids()->Add(info.allowed.begin(), info.allowed.end());
  segment.mutable_attached_session_ids()->Add(info.attached.begin(), info.attached.end());
  segment.set_survives_daemon(info.survives_daemon);
  return segment;
}

v1::Pool ToWire(const heap::PoolStats& stats) {
  v1::Pool pool;
  pool.set_block_size_bytes(stats.block_size.value());
  pool.set_total_blocks(stats.total_blocks);
  pool.set_allocated_blocks(stats.allocated_blocks);
  pool.set_free_blocks(stats.free_blocks);
  return pool;
}

v1::Totals ToWire(const LeaseTotals& leases) {
  v1::Totals totals;
  totals.set_allocations(leases.allocations);
  totals.set_refused_allocations(leases.refused_allocations);
  totals.set_frees(leases.frees);
  totals.set_reclaimed_allocations(leases.reclaimed_allocations);
  totals.set_sessions_opened(leases.sessions_opened);
  totals.set_sessions_reclaimed(leases.sessions_reclaimed);
  // connections_cut is the connection table's: the handler adds it.
  return totals;
}

v1::Recovered ToWire(const RecoveryReport& report) {
  v1::Recovered recovered;
  recovered.set_previous_epoch(report.previous_epoch);
  recovered.set_sessions(report.sessions);
  // A process may have had several sessions, and is in the list once for each.
  recovered.set_dead_sessions(report.dead.size());
  recovered.set_allocations(report.blocks);
  recovered.set_segments(report.segments);
  recovered.set_regions(report.regions);
  recovered.set_region_bytes(report.bytes.value());
  recovered.set_lost_regions(report.lost_regions);
  return recovered;
}

}  // namespace tenure::server
