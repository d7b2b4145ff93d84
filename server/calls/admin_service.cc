#include "server/calls/admin_service.h"

#include "server/calls/rpc.h"

namespace tenure::server {

grpc::ServerUnaryReactor* AdminService::Trim(grpc::CallbackServerContext* context,
                                             const v1::TrimRequest* request,
                                             v1::TrimResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const ConnectionTable::Caller caller = connections_.Find(context->peer());
  // Whoever may not does not take the executor's time.
  const absl::Status allowed =
      caller.ok() ? AdminHandlers::CheckOperator(**caller) : caller.status();
  if (!allowed.ok()) {
    reactor->Finish(ToGrpc(allowed));
    return reactor;
  }
  executor_.Run([=, this, peer = *caller] {
    reactor->Finish(ToGrpc(calls_.Trim(*peer, *request, *response)));
  });
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Revoke(grpc::CallbackServerContext* context,
                                               const v1::RevokeRequest* request,
                                               v1::RevokeResponse* response) {
  return Answer(context, connections_,
                [&](const Peer& caller) { return calls_.Revoke(caller, *request, *response); });
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest* request,
                                              v1::DrainResponse* response) {
  return Answer(context, connections_,
                [&](const Peer& caller) { return calls_.Drain(caller, *request, *response); });
}

}  // namespace tenure::server
