// tenure.v1.Stats at gRPC.
#ifndef SERVER_CALLS_STATS_SERVICE_H_
#define SERVER_CALLS_STATS_SERVICE_H_

#include <utility>

#include "server/calls/stats_handlers.h"
#include "server/transport/connection_table.h"
#include "tenure/v1/stats.grpc.pb.h"

namespace tenure::server {

// Finds who is calling and lets StatsHandlers answer.
//
// Owns: the calls.
// Borrows: the connections.
// Thread safety: thread-safe.
class StatsService final : public v1::Stats::CallbackService {
 public:
  StatsService(ConnectionTable& connections, StatsHandlers calls)
      : connections_(connections), calls_(std::move(calls)) {}

  grpc::ServerUnaryReactor* GetStats(grpc::CallbackServerContext* context,
                                     const v1::GetStatsRequest* request,
                                     v1::GetStatsResponse* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* ListAllocations(grpc::CallbackServerContext* context,
                                            const v1::ListAllocationsRequest* request,
                                            v1::ListAllocationsResponse* response) override;
  grpc::ServerUnaryReactor* ListSegments(grpc::CallbackServerContext* context,
                                         const v1::ListSegmentsRequest* request,
                                         v1::ListSegmentsResponse* response) override;
  grpc::ServerUnaryReactor* Ping(grpc::CallbackServerContext* context,
                                 const v1::PingRequest* request,
                                 v1::PingResponse* response) override;

 private:
  ConnectionTable& connections_;
  StatsHandlers calls_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_STATS_SERVICE_H_
