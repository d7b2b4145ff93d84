// The gRPC server: its limits, its services, and the connections that it is handed.
#ifndef SERVER_CALLS_GRPC_SERVER_H_
#define SERVER_CALLS_GRPC_SERVER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>

#include "common/unique_fd.h"

namespace tenure::server {

// A gRPC server without a listening port: the daemon's own listener accepts and identifies the
// callers, and hands the sockets over. Beside the given services it has grpc.health.v1.Health and
// server reflection.
//
// Owns: gRPC's server, and the sockets that it is handed.
// Borrows: the services.
// Thread safety: AddConnection and SetServing from any thread; the rest from one.
class GrpcServer {
 public:
  // A service under its full name, such as "tenure.v1.Stats".
  struct NamedService {
    std::string name;
    grpc::Service* service;
  };

  // Errors: INTERNAL: gRPC refused to start; it has logged the reason.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const std::vector<NamedService>& services);

  // Sets the answer of grpc.health.v1.Health, for the daemon and for each of the services. All
  // calls are answered in both states.
  void SetServing(bool serving);
  // Serves a connected socket. REQUIRES: Shutdown was not called: gRPC would never close the
  // socket.
  void AddConnection(UniqueFd socket);
  // Cancels the calls in progress, and returns when none is left.
  void Shutdown();

 private:
  GrpcServer(std::unique_ptr<grpc::Server> server, std::vector<std::string> names)
      : server_(std::move(server)), names_(std::move(names)) {}

  const std::unique_ptr<grpc::Server> server_;
  const std::vector<std::string> names_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_GRPC_SERVER_H_
