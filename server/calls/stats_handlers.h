// The handlers of tenure.v1.Stats.
#ifndef SERVER_CALLS_STATS_HANDLERS_H_
#define SERVER_CALLS_STATS_HANDLERS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"

#include "common/clock.h"
#include "server/identity/peer.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"
#include "server/report/http_endpoint.h"
#include "server/report/stats.h"
#include "server/transport/connection_table.h"
#include "tenure/v1/stats.pb.h"

namespace tenure::server {

// Report the memory that the daemon holds, and for which sessions. They answer also when the daemon
// has failed and no longer serves, because that is when an operator asks.
//
// Borrows: everything in Parts.
// Thread safety: thread-safe.
class StatsHandlers {
 public:
  struct Parts {
    const ConnectionTable& connections;
    LeaseRegistry& registry;
    const Quarantine& quarantine;
    Stats& stats;
    const Clock& clock;
    const HttpEndpoint& http;
    std::string device_uuid;
    std::string device_name;
    std::string driver;
    std::string driver_version;
  };

  explicit StatsHandlers(Parts parts) : parts_(std::move(parts)), started_(parts_.clock.Now()) {}

  // Makes one driver call.
  // Errors: as DeviceHeap::TakeSnapshot: on a lost context the driver may not answer.
  absl::Status GetStats(const Peer& caller, const v1::GetStatsRequest& request,
                        v1::GetStatsResponse& response);
  absl::Status ListSessions(const Peer& caller, const v1::ListSessionsRequest& request,
                            v1::ListSessionsResponse& response);
  // Lists all segments to root and to the daemon's own user; to others those that they may attach.
  absl::Status ListSegments(const Peer& caller, const v1::ListSegmentsRequest& request,
                            v1::ListSegmentsResponse& response);
  // Lists all allocations to root and to the daemon's own user; to others those of their uid.
  // Errors: INVALID_ARGUMENT: a page token that this method did not return, or too large a page.
  absl::Status ListAllocations(const Peer& caller, const v1::ListAllocationsRequest& request,
                               v1::ListAllocationsResponse& response);
  absl::Status Ping(const Peer& caller, const v1::PingRequest& request, v1::PingResponse& response);

 private:
  const Parts parts_;
  const BootTime started_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_STATS_HANDLERS_H_
