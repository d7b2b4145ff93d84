// tenure.v1.Allocator at gRPC.
#ifndef SERVER_CALLS_ALLOCATOR_SERVICE_H_
#define SERVER_CALLS_ALLOCATOR_SERVICE_H_

#include <atomic>
#include <utility>

#include "absl/time/time.h"

#include "server/calls/allocator_handlers.h"
#include "server/calls/executor.h"
#include "server/calls/segment_handlers.h"
#include "server/memory/health.h"
#include "server/report/metrics.h"
#include "server/transport/connection_table.h"
#include "tenure/v1/allocator.grpc.pb.h"

namespace tenure::server {

// Finds who is calling, lets AllocatorHandlers answer, and notes how long that took. Calls that
// need no driver are answered on gRPC's thread; those that do go to the executor.
//
// Owns: the calls.
// Borrows: everything in Parts.
// Thread safety: thread-safe.
class AllocatorService final : public v1::Allocator::CallbackService {
 public:
  struct Parts {
    ConnectionTable& connections;
    Health& health;
    Metrics& metrics;
    Executor& executor;
  };

  AllocatorService(const Parts& parts, AllocatorHandlers calls, SegmentHandlers segments)
      : parts_(parts), calls_(std::move(calls)), segments_(segments) {}

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
  grpc::ServerUnaryReactor* RequestRegionFd(grpc::CallbackServerContext* context,
                                            const v1::RequestRegionFdRequest* request,
                                            v1::RequestRegionFdResponse* response) override;
  grpc::ServerUnaryReactor* PublishSegment(grpc::CallbackServerContext* context,
                                           const v1::PublishSegmentRequest* request,
                                           v1::PublishSegmentResponse* response) override;
  grpc::ServerUnaryReactor* AttachSegment(grpc::CallbackServerContext* context,
                                          const v1::AttachSegmentRequest* request,
                                          v1::AttachSegmentResponse* response) override;
  grpc::ServerUnaryReactor* DetachSegment(grpc::CallbackServerContext* context,
                                          const v1::DetachSegmentRequest* request,
                                          v1::DetachSegmentResponse* response) override;
  grpc::ServerUnaryReactor* UnpublishSegment(grpc::CallbackServerContext* context,
                                             const v1::UnpublishSegmentRequest* request,
                                             v1::UnpublishSegmentResponse* response) override;
  grpc::ServerUnaryReactor* ReleaseRegions(grpc::CallbackServerContext* context,
                                           const v1::ReleaseRegionsRequest* request,
                                           v1::ReleaseRegionsResponse* response) override;

 private:
  // A call under way: finishes once, and notes how long it took.
  class Call;

  ConnectionTable::Caller Caller(const grpc::CallbackServerContext& context) const;
  // Answers with what `work(caller)` returns, on this thread.
  template <typename Work>
  grpc::ServerUnaryReactor* AnswerHere(grpc::CallbackServerContext* context, Metrics::Method method,
                                       const Work& work);
  // Likewise on one of the executor's, for work that may wait for the driver.
  template <typename Work>
  grpc::ServerUnaryReactor* AnswerLater(grpc::CallbackServerContext* context,
                                        Metrics::Method method, Work work);

  const Parts parts_;
  AllocatorHandlers calls_;
  SegmentHandlers segments_;
  std::atomic<int> under_way_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_ALLOCATOR_SERVICE_H_
