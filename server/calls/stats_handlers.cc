#include "server/calls/stats_handlers.h"

#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/calls/wire.h"
#include "server/leases/segment.h"

namespace tenure::server {
namespace {

// Allocations in one answer. The registry copies this many under its lock.
constexpr uint32_t kMaxPage = 1000;

// The registry's sums over the present holdings.
void SetLeases(const LeaseTotals& leases, v1::GetStatsResponse& response) {
  response.set_allocated_bytes(leases.allocated.value());
  response.set_requested_bytes(leases.requested.value());
  response.set_active_sessions(leases.active_sessions);
  response.set_suspended_sessions(leases.suspended_sessions);
  response.set_active_allocations(leases.active_allocations);
  response.set_segments(leases.segments);
  response.set_attachments(leases.attachments);
  response.set_segment_bytes(leases.segment_bytes.value());
}

void SetDevice(const DeviceHeap::Snapshot& device, v1::GetStatsResponse& response) {
  response.set_total_bytes(device.total.value());
  response.set_driver_free_bytes(device.driver_free.value());
  response.set_reserved_bytes(device.books.reserved().value());
  response.set_leased_bytes(device.books.leased.value());
  response.set_warm_bytes(device.books.warm.value());
  response.set_quarantined_bytes(device.books.quarantined.value());
  response.set_other_bytes(device.other().value());
}

void SetSurvival(const StatsSnapshot& snapshot, const RecoveryReport& report,
                 v1::Survival& survival) {
  survival.set_state(std::string(NameOf(snapshot.survival)));
  survival.set_stored_descriptors(snapshot.stored_descriptors);
  survival.set_max_stored_descriptors(snapshot.max_stored_descriptors);
  // Epoch 0 is no daemon's: this one found no journal to restore from.
  if (report.previous_epoch != 0) *survival.mutable_recovered() = ToWire(report);
}

}  // namespace

absl::Status StatsHandlers::GetStats(const Peer&, const v1::GetStatsRequest&,
                                     v1::GetStatsResponse& response) {
  TENURE_ASSIGN_OR_RETURN(const StatsSnapshot snapshot, parts_.stats.TakeSnapshot());
  const absl::Status serving = parts_.stats.CheckServing();
  response.set_device_uuid(parts_.device_uuid);
  response.set_device_name(parts_.device_name);
  response.set_driver(parts_.driver);
  response.set_driver_version(parts_.driver_version);
  // Read here and not by the dispatcher: this service also answers after a failure.
  response.set_health(serving.ok() ? "SERVING" : "NOT_SERVING");
  response.set_health_reason(std::string(serving.message()));
  response.set_epoch(parts_.registry.epoch());
  response.set_uptime_ms(ToWireMilliseconds(parts_.clock.Now() - started_));
  SetDevice(snapshot.device, response);
  response.set_waiting_bytes(snapshot.waiting.value());
  response.set_connections(parts_.connections.size());
  SetSurvival(snapshot, parts_.stats.recovery(), *response.mutable_survival());
  SetLeases(snapshot.leases, response);
  const HttpEndpoint::State http = parts_.http.state();
  response.set_metrics_address(http.address);
  response.set_metrics_trouble(http.trouble);
  *response.mutable_totals() = ToWire(snapshot.leases);
  // The one total that the registry does not count.
  response.mutable_totals()->set_connections_cut(parts_.connections.cut());
  for (const heap::PoolStats& pool : snapshot.pools) *response.add_pools() = ToWire(pool);
  return absl::OkStatus();
}

absl::Status StatsHandlers::ListSessions(const Peer&, const v1::ListSessionsRequest&,
                                         v1::ListSessionsResponse& response) {
  // The sessions first: one that dies between the two lists is then in both and not in neither.
  for (const SessionInfo& info : parts_.registry.ListSessions())
    *response.add_sessions() = ToWire(info);
  for (const QuarantineInfo& info : parts_.quarantine.List())
    *response.add_quarantines() = ToWire(info);
  return absl::OkStatus();
}

absl::Status StatsHandlers::ListSegments(const Peer& caller, const v1::ListSegmentsRequest&,
                                         v1::ListSegmentsResponse& response) {
  for (const SegmentInfo& info : parts_.registry.ListSegments()) {
    // A claimed name has no list of allowed users yet, so only its owner sees it.
    if (MayAttach(caller.tenant(), info.key, info.allowed) || caller.IsOperator())
      *response.add_segments() = ToWire(info);
  }
  return absl::OkStatus();
}

absl::Status StatsHandlers::ListAllocations(const Peer& caller,
                                            const v1::ListAllocationsRequest& request,
                                            v1::ListAllocationsResponse& response) {
  // A page token is the first slot of the next page. It needs no secret: whatever slot a caller
  // names, it sees only the allocations that it may see.
  uint64_t first_slot = 0;
  if (!request.page_token().empty() && !absl::SimpleAtoi(request.page_token(), &first_slot)) {
    return absl::InvalidArgumentError(
        "page_token is not one that ListAllocations returned; leave it out for the first page");
  }
  if (request.page_size() > kMaxPage) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_size ", request.page_size(), " is above ", kMaxPage));
  }
  // Filtered in the registry and not here: a page must be full although others' allocations are
  // left out, and the next page begins at a slot.
  const bool sees_all = caller.IsOperator();
  const uint32_t page = request.page_size() == 0 ? kMaxPage : request.page_size();
  const auto [allocations, next_slot] =
      parts_.registry.ListAllocations(first_slot, page, request.session_id(),
                                      sees_all ? std::nullopt : std::optional<uid_t>(caller.uid()));
  for (const AllocationInfo& info : allocations) *response.add_allocations() = ToWire(info);
  if (next_slot != 0) response.set_next_page_token(absl::StrCat(next_slot));
  return absl::OkStatus();
}

absl::Status StatsHandlers::Ping(const Peer&, const v1::PingRequest&, v1::PingResponse&) {
  return absl::OkStatus();
}

}  // namespace tenure::server
