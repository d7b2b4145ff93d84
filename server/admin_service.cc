#include "server/admin_service.h"

#include "server/rpc.h"

namespace tenure::server {

grpc::ServerUnaryReactor* AdminService::Trim(grpc::CallbackServerContext* context,
                                             const v1::TrimRequest* request,
                                             v1::TrimResponse* response) {
  return AnswerLater(context, connections_, executor_, [=, this](const Peer& caller) {
    return calls_.Trim(caller, *request, *response);
  });
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
