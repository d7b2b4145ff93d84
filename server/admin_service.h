// tenure.v1.Admin: the operator's hand.
#ifndef SERVER_ADMIN_SERVICE_H_
#define SERVER_ADMIN_SERVICE_H_

#include <functional>

#include "absl/status/status.h"

#include "server/connection_table.h"
#include "server/device_heap.h"
#include "server/executor.h"
#include "server/lease_registry.h"
#include "tenure/v1/admin.grpc.pb.h"

namespace tenure::server {

// Borrows: everything in Parts.
// Thread safety: thread-safe.
class AdminService final : public v1::Admin::CallbackService {
 public:
  struct Parts {
    ConnectionTable& connections;
    LeaseRegistry& registry;
    DeviceHeap& heap;
    Executor& executor;
    // Makes the daemon end when its last session has.
    std::function<void()> drain;
  };

  explicit AdminService(Parts parts) : parts_(std::move(parts)) {}

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
  // PERMISSION_DENIED unless the caller is root or the daemon's own user.
  absl::Status CheckCaller(const grpc::CallbackServerContext& context);

  const Parts parts_;
};

}  // namespace tenure::server

#endif  // SERVER_ADMIN_SERVICE_H_
