// tenure.v1.Admin as a gRPC service.
#ifndef SERVER_CALLS_ADMIN_SERVICE_H_
#define SERVER_CALLS_ADMIN_SERVICE_H_

#include <utility>

#include "server/calls/admin_handlers.h"
#include "server/calls/rpc_dispatcher.h"
#include "tenure/v1/admin.grpc.pb.h"

namespace tenure::server {

// Names the handler of each method. The dispatcher's options should name
// AdminHandlers::CheckOperator, so that a caller without the right takes no time of the executor.
//
// Owns: the handlers.
// Borrows: everything in the dispatcher's options.
// Thread safety: thread-safe.
class AdminService final : public v1::Admin::CallbackService {
 public:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  AdminService(const RpcDispatcher::Options& options, AdminHandlers handlers)
      : handlers_(std::move(handlers)), rpcs_(options) {}

  Reactor* Trim(Context* context, const v1::TrimRequest* request,
                v1::TrimResponse* response) override {
    return rpcs_.AnswerOnExecutor(context, handlers_, &AdminHandlers::Trim, request, response);
  }
  Reactor* Revoke(Context* context, const v1::RevokeRequest* request,
                  v1::RevokeResponse* response) override {
    return rpcs_.Answer(context, handlers_, &AdminHandlers::Revoke, request, response);
  }
  Reactor* Drain(Context* context, const v1::DrainRequest* request,
                 v1::DrainResponse* response) override {
    return rpcs_.Answer(context, handlers_, &AdminHandlers::Drain, request, response);
  }

 private:
  AdminHandlers handlers_;
  RpcDispatcher rpcs_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_ADMIN_SERVICE_H_
