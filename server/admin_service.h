// tenure.v1.Admin at gRPC.
#ifndef SERVER_ADMIN_SERVICE_H_
#define SERVER_ADMIN_SERVICE_H_

#include <utility>

#include "server/admin_calls.h"
#include "server/connection_table.h"
#include "server/executor.h"
#include "tenure/v1/admin.grpc.pb.h"

namespace tenure::server {

// Finds who is calling and lets AdminCalls answer.
//
// Owns: the calls.
// Borrows: the connections, the executor.
// Thread safety: thread-safe.
class AdminService final : public v1::Admin::CallbackService {
 public:
  AdminService(ConnectionTable& connections, Executor& executor, AdminCalls calls)
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
  AdminCalls calls_;
};

}  // namespace tenure::server

#endif  // SERVER_ADMIN_SERVICE_H_
