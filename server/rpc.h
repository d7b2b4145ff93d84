// What the services have in common: from gRPC's words to ours and back.
#ifndef SERVER_RPC_H_
#define SERVER_RPC_H_

#include "absl/status/status.h"
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

namespace tenure::server {

// The codes of both are google.rpc.Code.
inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace tenure::server

#endif  // SERVER_RPC_H_
