// What the services share: from gRPC's words to ours and back.
#ifndef SERVER_CALLS_RPC_H_
#define SERVER_CALLS_RPC_H_

#include <string>

#include "absl/status/status.h"
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include "server/identity/peer.h"
#include "server/transport/connection_table.h"

namespace tenure::server {

// The codes of both are google.rpc.Code.
inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

// Answers a call with the status that `work(caller)` returns, on this thread.
template <typename Work>
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, ConnectionTable& connections,
                                 const Work& work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const ConnectionTable::Caller caller = connections.Find(context->peer());
  reactor->Finish(ToGrpc(caller.ok() ? work(**caller) : caller.status()));
  return reactor;
}

}  // namespace tenure::server

#endif  // SERVER_CALLS_RPC_H_
