#include "server/calls/stats_service.h"

#include "server/calls/rpc.h"

namespace tenure::server {

grpc::ServerUnaryReactor* StatsService::GetStats(grpc::CallbackServerContext* context,
                                                 const v1::GetStatsRequest* request,
                                                 v1::GetStatsResponse* response) {
  return Answer(context, connections_,
                [&](const Peer& caller) { return calls_.GetStats(caller, *request, *response); });
}

grpc::ServerUnaryReactor* StatsService::ListSessions(grpc::CallbackServerContext* context,
                                                     const v1::ListSessionsRequest* request,
                                                     v1::ListSessionsResponse* response) {
  return Answer(context, connections_, [&](const Peer& caller) {
    return calls_.ListSessions(caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* StatsService::ListAllocations(grpc::CallbackServerContext* context,
                                                        const v1::ListAllocationsRequest* request,
                                                        v1::ListAllocationsResponse* response) {
  return Answer(context, connections_, [&](const Peer& caller) {
    return calls_.ListAllocations(caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* StatsService::ListSegments(grpc::CallbackServerContext* context,
                                                     const v1::ListSegmentsRequest* request,
                                                     v1::ListSegmentsResponse* response) {
  return Answer(context, connections_, [&](const Peer& caller) {
    return calls_.ListSegments(caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* StatsService::Ping(grpc::CallbackServerContext* context,
                                             const v1::PingRequest*, v1::PingResponse*) {
  return Answer(context, connections_, [](const Peer&) { return absl::OkStatus(); });
}

}  // namespace tenure::server
