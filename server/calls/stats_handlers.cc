#include "server/calls/stats_handlers.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

constexpr uint32_t kMaxPage = 1000;

uint64_t Milliseconds(absl::Duration duration) {
  return static_cast<uint64_t>(absl::ToInt64Milliseconds(duration));
}

void Fill(const LeaseTotals& leases, v1::GetStatsResponse& response) {
  response.set_allocated_bytes(leases.allocated.value());
  response.set_requested_bytes(leases.requested.value());
  response.set_active_sessions(leases.active_sessions);
  response.set_suspended_sessions(leases.suspended_sessions);
  response.set_active_allocations(leases.active_allocations);
  response.set_segments(leases.segments);
  response.set_attachments(leases.attachments);
  response.set_segment_bytes(leases.segment_bytes.value());
  v1::Totals& totals = *response.mutable_totals();
  totals.set_allocations(leases.allocations);
  totals.set_refused_allocations(leases.refused_allocations);
  totals.set_frees(leases.frees);
  totals.set_reclaimed_allocations(leases.reclaimed_allocations);
  totals.set_sessions_opened(leases.sessions_opened);
  totals.set_sessions_reclaimed(leases.sessions_reclaimed);
}

void Fill(const StatsPicture& picture, const RecoveryReport& report, v1::Survival& survival) {
  survival.set_state(std::string(NameOf(picture.survival)));
  survival.set_stored_descriptors(picture.stored_descriptors);
  survival.set_max_stored_descriptors(picture.max_stored_descriptors);
  if (report.previous_epoch == 0) return;
  v1::Recovered& recovered = *survival.mutable_recovered();
  recovered.set_previous_epoch(report.previous_epoch);
  recovered.set_sessions(report.sessions);
  recovered.set_dead_sessions(report.dead.size());
  recovered.set_allocations(report.blocks);
  recovered.set_segments(report.segments);
  recovered.set_regions(report.regions);
  recovered.set_region_bytes(report.bytes.value());
  recovered.set_lost_regions(report.lost_regions);
}

void Fill(const SessionInfo& info, v1::Session& session) {
  session.set_session_id(info.id);
  const Peer& peer = *info.lease->peer();
  const LeaseState state = info.lease->state();
  session.set_pid(static_cast<uint32_t>(peer.pid()));
  session.set_uid(peer.uid());
  session.set_gid(peer.gid());
  session.set_name(info.lease->name());
  session.set_state(std::string(NameOf(state)));
  if (state == LeaseState::kSuspended) {
    session.set_cause(std::string(NameOf(info.lease->cause())));
  }
  session.set_age_ms(Milliseconds(info.age));
  session.set_lease_left_ms(absl::ToInt64Milliseconds(info.lease_left));
  session.set_allocations(info.allocations);
  session.set_allocated_bytes(info.allocated.value());
  session.set_requested_bytes(info.requested.value());
  const SessionPoolStats pool = info.pool->stats();
  session.set_leased_bytes(pool.leased().value());
  session.set_regions(pool.regions());
  session.set_tenant(peer.tenant().ToString());
}

void Fill(const QuarantineInfo& info, v1::Quarantine& quarantine) {
  const Peer& peer = *info.lease->peer();
  quarantine.set_session_id(info.session);
  quarantine.set_pid(static_cast<uint32_t>(peer.pid()));
  quarantine.set_tenant(peer.tenant().ToString());
  quarantine.set_name(info.lease->name());
  quarantine.set_state(std::string(NameOf(info.lease->state())));
  quarantine.set_quarantined_bytes(info.bytes.value());
  quarantine.set_regions(info.regions);
  quarantine.set_age_ms(Milliseconds(info.age));
  quarantine.set_reason(info.reason);
}

void Fill(const AllocationInfo& info, v1::Allocation& allocation) {
  allocation.set_allocation_id(info.id);
  allocation.set_session_id(info.session);
  allocation.set_pid(static_cast<uint32_t>(info.pid));
  allocation.set_region_id(info.region);
  allocation.set_offset_bytes(info.offset.value());
  allocation.set_size_bytes(info.size.value());
  allocation.set_requested_bytes(info.requested.value());
  allocation.set_memory_kind(std::string(NameOf(info.kind)));
  allocation.set_placement(info.direct ? "direct" : "pool");
  allocation.set_age_ms(Milliseconds(info.age));
}

void Fill(const SegmentInfo& info, v1::Segment& segment) {
  segment.set_name(info.key.name);
  segment.set_owner_uid(info.key.owner);
  if (info.loading != 0) {
    segment.set_state("LOADING");
    segment.set_loading_session_id(info.loading);
    return;
  }
  segment.set_state("PUBLISHED");
  segment.set_size_bytes(info.size.value());
  segment.set_blocks(info.blocks);
  segment.set_tensors(info.tensors);
  segment.set_memory_kind(std::string(NameOf(info.kind)));
  segment.set_digest(info.digest);
  segment.set_age_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(info.age)));
  segment.mutable_allowed_uids()->Add(info.allowed.begin(), info.allowed.end());
  segment.mutable_attached_session_ids()->Add(info.attached.begin(), info.attached.end());
  segment.set_survives_daemon(info.survives_daemon);
}

}  // namespace

absl::Status StatsHandlers::GetStats(const Peer&, const v1::GetStatsRequest&,
                                     v1::GetStatsResponse& response) {
  const absl::StatusOr<StatsPicture> picture = parts_.stats.Take();
  if (!picture.ok()) return picture.status();
  const absl::Status health = parts_.health.Check();
  response.set_device_uuid(parts_.device_uuid);
  response.set_device_name(parts_.device_name);
  response.set_driver(parts_.driver);
  response.set_driver_version(parts_.driver_version);
  response.set_health(health.ok() ? "SERVING" : "NOT_SERVING");
  response.set_health_reason(std::string(health.message()));
  response.set_epoch(parts_.registry.epoch());
  response.set_uptime_ms(Milliseconds(parts_.clock.Now() - started_));
  response.set_total_bytes(picture->device.total.value());
  response.set_driver_free_bytes(picture->device.driver_free.value());
  response.set_reserved_bytes(picture->device.books.reserved().value());
  response.set_leased_bytes(picture->device.books.leased.value());
  response.set_warm_bytes(picture->device.books.warm.value());
  response.set_quarantined_bytes(picture->device.books.quarantined.value());
  response.set_other_bytes(picture->device.other().value());
  response.set_waiting_bytes(picture->waiting.value());
  response.set_connections(parts_.connections.size());
  Fill(*picture, parts_.stats.recovered(), *response.mutable_survival());
  Fill(picture->leases, response);
  response.mutable_totals()->set_connections_cut(parts_.connections.cut());
  for (const heap::PoolStats& one : picture->pools) {
    v1::Pool& pool = *response.add_pools();
    pool.set_block_size_bytes(one.block_size.value());
    pool.set_total_blocks(one.total_blocks);
    pool.set_allocated_blocks(one.allocated_blocks);
    pool.set_free_blocks(one.free_blocks);
  }
  return absl::OkStatus();
}

absl::Status StatsHandlers::ListSessions(const Peer&, const v1::ListSessionsRequest&,
                                         v1::ListSessionsResponse& response) {
  for (const SessionInfo& info : parts_.registry.ListSessions())
    Fill(info, *response.add_sessions());
  for (const QuarantineInfo& info : parts_.quarantine.List())
    Fill(info, *response.add_quarantines());
  return absl::OkStatus();
}

absl::Status StatsHandlers::ListSegments(const Peer& caller, const v1::ListSegmentsRequest&,
                                         v1::ListSegmentsResponse& response) {
  for (const SegmentInfo& info : parts_.registry.ListSegments()) {
    const bool attachable =
        info.key.owner == caller.uid() ||
        std::find(info.allowed.begin(), info.allowed.end(), caller.uid()) != info.allowed.end();
    if (attachable || caller.IsOperator()) Fill(info, *response.add_segments());
  }
  return absl::OkStatus();
}

absl::Status StatsHandlers::ListAllocations(const Peer& caller,
                                            const v1::ListAllocationsRequest& request,
                                            v1::ListAllocationsResponse& response) {
  uint64_t first_slot = 0;
  if (!request.page_token().empty() && !absl::SimpleAtoi(request.page_token(), &first_slot)) {
    return absl::InvalidArgumentError(
        "page_token is not one that ListAllocations gave; leave it out for the first page");
  }
  if (request.page_size() > kMaxPage) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size ", request.page_size(), " is above ", kMaxPage));
  }
  const bool sees_all = caller.IsOperator();
  const uint32_t page = request.page_size() == 0 ? kMaxPage : request.page_size();
  const auto [allocations, next_slot] =
      parts_.registry.ListAllocations(first_slot, page, request.session_id(),
                                      sees_all ? std::nullopt : std::optional<uid_t>(caller.uid()));
  for (const AllocationInfo& info : allocations) Fill(info, *response.add_allocations());
  if (next_slot != 0) response.set_next_page_token(absl::StrCat(next_slot));
  return absl::OkStatus();
}

}  // namespace tenure::server
