// tenure.v1.Stats, over the books.
#ifndef SERVER_STATS_SERVICE_H_
#define SERVER_STATS_SERVICE_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"

#include "common/clock.h"
#include "server/connection_table.h"
#include "server/fence.h"
#include "server/health.h"
#include "server/lease_registry.h"
#include "server/stats.h"
#include "tenure/v1/stats.grpc.pb.h"

namespace tenure::server {

// Answers what the daemon holds and for whom. Answers also when the daemon no longer serves: that
// is when people ask.
//
// Borrows: everything in Parts.
// Thread safety: thread-safe.
class StatsService final : public v1::Stats::CallbackService {
 public:
  struct Parts {
    ConnectionTable& connections;
    LeaseRegistry& registry;
    Fence& fence;
    Stats& stats;
    const Health& health;
    const Clock& clock;
    std::string device_uuid;
    std::string device_name;
    std::string driver;
    std::string driver_version;
  };

  explicit StatsService(const Parts& parts) : parts_(parts), started_(parts.clock.Now()) {}

  grpc::ServerUnaryReactor* GetStats(grpc::CallbackServerContext* context,
                                     const v1::GetStatsRequest* request,
                                     v1::GetStatsResponse* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* ListAllocations(grpc::CallbackServerContext* context,
                                            const v1::ListAllocationsRequest* request,
                                            v1::ListAllocationsResponse* response) override;
  grpc::ServerUnaryReactor* Ping(grpc::CallbackServerContext* context,
                                 const v1::PingRequest* request,
                                 v1::PingResponse* response) override;

 private:
  absl::Status FillStats(v1::GetStatsResponse& response);
  absl::Status FillAllocations(uid_t caller, const v1::ListAllocationsRequest& request,
                               v1::ListAllocationsResponse& response);

  const Parts parts_;
  const BootTime started_;
};

}  // namespace tenure::server

#endif  // SERVER_STATS_SERVICE_H_
