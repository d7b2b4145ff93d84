// tenure.v1.Admin at gRPC.
#ifndef SERVER_CALLS_ADMIN_SERVICE_H_
#define SERVER_CALLS_ADMIN_SERVICE_H_

#include <utility>

#include "server/calls/admin_handlers.h"
#include "server/calls/executor.h"
#include "server/transport/connection_table.h"
#include "tenure/v1/admin.grpc.pb.h"

namespace tenure::server {

// Finds who is calling and lets AdminHandlers answer.
//
// Owns: the calls.
// Borrows: the connections, the executor.
// Thread safety: thread-safe.
class AdminService final : public v1::Admin::CallbackService {
 public:
  AdminService(ConnectionTable& connections, Executor& executor, AdminHandlers calls)
      : connections_(connections), executor_(executor), calls_(std::move(calls)) {}

  grpc::ServerUnaryReactor* Trim(grpc::CallbackServerContext* context,
                                 const v1::TrimRequest* request,
                                 v1::TrimResponse* response) override;
  grpc::ServerUnaryReactor* Revoke(grpc::CallbackServerContext* context,
                                   const v1::RevokeRequest* request,
                                   v1::RevokeResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* context,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;

 private:
  ConnectionTable& connections_;
  Executor& executor_;
  AdminHandlers calls_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_ADMIN_SERVICE_H_
