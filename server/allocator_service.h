// tenure.v1.Allocator, over the lease registry.
#ifndef SERVER_ALLOCATOR_SERVICE_H_
#define SERVER_ALLOCATOR_SERVICE_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "server/connection_table.h"
#include "server/executor.h"
#include "server/health.h"
#include "server/lease_registry.h"
#include "server/metrics.h"
#include "server/reaper.h"
#include "tenure/v1/allocator.grpc.pb.h"

namespace tenure::server {

// Translates: who is calling, are the fields sane, what is the answer. Decides nothing about
// memory.
//
// Calls that need no driver are answered on gRPC's thread; those that do go to the executor.
// Borrows: everything in Parts.
// Thread safety: thread-safe.
class AllocatorService final : public v1::Allocator::CallbackService {
 public:
  struct Parts {
    ConnectionTable& connections;
    LeaseRegistry& registry;
    Reaper& reaper;
    Health& health;
    Metrics& metrics;
    Executor& executor;
    Bytes device_total;
    std::string device_uuid;
    std::string driver;
    Bytes max_pool_block;
  };

  explicit AllocatorService(const Parts& parts) : parts_(parts) {}

  // Waits until no call is under way, at most `timeout`. New calls are refused once the health has
  // failed.
  void WaitUntilIdle(absl::Duration timeout);

  grpc::ServerUnaryReactor* OpenSession(grpc::CallbackServerContext* context,
                                        const v1::OpenSessionRequest* request,
                                        v1::OpenSessionResponse* response) override;
  grpc::ServerUnaryReactor* KeepAlive(grpc::CallbackServerContext* context,
                                      const v1::KeepAliveRequest* request,
                                      v1::KeepAliveResponse* response) override;
  grpc::ServerUnaryReactor* CloseSession(grpc::CallbackServerContext* context,
                                         const v1::CloseSessionRequest* request,
                                         v1::CloseSessionResponse* response) override;
  grpc::ServerUnaryReactor* Allocate(grpc::CallbackServerContext* context,
                                     const v1::AllocateRequest* request,
                                     v1::AllocateResponse* response) override;
  grpc::ServerUnaryReactor* AllocateBatch(grpc::CallbackServerContext* context,
                                          const v1::AllocateBatchRequest* request,
                                          v1::AllocateBatchResponse* response) override;
  grpc::ServerUnaryReactor* Free(grpc::CallbackServerContext* context,
                                 const v1::FreeRequest* request,
                                 v1::FreeResponse* response) override;
  grpc::ServerUnaryReactor* FreeBatch(grpc::CallbackServerContext* context,
                                      const v1::FreeBatchRequest* request,
                                      v1::FreeBatchResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseRegions(grpc::CallbackServerContext* context,
                                           const v1::ReleaseRegionsRequest* request,
                                           v1::ReleaseRegionsResponse* response) override;

 private:
  using Peer = std::shared_ptr<const server::Peer>;
  // A call under way: finishes once, and notes how long it took.
  class Call;

  absl::StatusOr<Peer> Caller(const grpc::CallbackServerContext& context) const;
  absl::Status DoOpenSession(const grpc::CallbackServerContext& context,
                             const v1::OpenSessionRequest& request,
                             v1::OpenSessionResponse& response);
  // Finishes the call, or hands it to the executor when only the driver can help.
  void DoAllocate(Call call, const Peer& caller, const v1::AllocateRequest& request,
                  v1::AllocateResponse& response);
  absl::StatusOr<v1::Token> AttachOne(LeaseRegistry::Admission admission,
                                      absl::StatusOr<Block> block);
  absl::Status DoAllocateBatch(const server::Peer& caller, const v1::AllocateBatchRequest& request,
                               v1::AllocateBatchResponse& response);
  absl::StatusOr<std::vector<RegionId>> DoFree(const server::Peer& caller,
                                               const v1::FreeRequest& request);

  const Parts parts_;
  std::atomic<int> under_way_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_ALLOCATOR_SERVICE_H_
