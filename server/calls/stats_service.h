// tenure.v1.Stats as a gRPC service.
#ifndef SERVER_CALLS_STATS_SERVICE_H_
#define SERVER_CALLS_STATS_SERVICE_H_

#include <utility>

#include "server/calls/rpc_dispatcher.h"
#include "server/calls/stats_handlers.h"
#include "tenure/v1/stats.grpc.pb.h"

namespace tenure::server {

// Names the handler of each method. All of them run on gRPC's thread, GetStats with its one quick
// driver call, too.
//
// Owns: the handlers.
// Borrows: everything in the dispatcher's options.
// Thread safety: thread-safe.
class StatsService final : public v1::Stats::CallbackService {
 public:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  StatsService(const RpcDispatcher::Options& options, StatsHandlers handlers)
      : handlers_(std::move(handlers)), rpcs_(options) {}

  Reactor* GetStats(Context* context, const v1::GetStatsRequest* request,
                    v1::GetStatsResponse* response) override {
    return rpcs_.Answer(context, handlers_, &StatsHandlers::GetStats, request, response);
  }
  Reactor* ListSessions(Context* context, const v1::ListSessionsRequest* request,
                        v1::ListSessionsResponse* response) override {
    return rpcs_.Answer(context, handlers_, &StatsHandlers::ListSessions, request, response);
  }
  Reactor* ListAllocations(Context* context, const v1::ListAllocationsRequest* request,
                           v1::ListAllocationsResponse* response) override {
    return rpcs_.Answer(context, handlers_, &StatsHandlers::ListAllocations, request, response);
  }
  Reactor* ListSegments(Context* context, const v1::ListSegmentsRequest* request,
                        v1::ListSegmentsResponse* response) override {
    return rpcs_.Answer(context, handlers_, &StatsHandlers::ListSegments, request, response);
  }
  Reactor* Ping(Context* context, const v1::PingRequest* request,
                v1::PingResponse* response) override {
    return rpcs_.Answer(context, handlers_, &StatsHandlers::Ping, request, response);
  }

 private:
  StatsHandlers handlers_;
  RpcDispatcher rpcs_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_STATS_SERVICE_H_
