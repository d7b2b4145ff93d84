// tenure.v1.Allocator as a gRPC service.
#ifndef SERVER_CALLS_ALLOCATOR_SERVICE_H_
#define SERVER_CALLS_ALLOCATOR_SERVICE_H_

#include <utility>

#include "absl/time/time.h"

#include "server/calls/allocator_handlers.h"
#include "server/calls/rpc_dispatcher.h"
#include "server/calls/segment_handlers.h"
#include "tenure/v1/allocator.grpc.pb.h"

namespace tenure::server {

// Names the handler of each method, and the thread that it runs on: handlers that may wait for the
// driver run on the executor.
//
// Owns: the handlers.
// Borrows: everything in the dispatcher's options.
// Thread safety: thread-safe.
class AllocatorService final : public v1::Allocator::CallbackService {
 public:
  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  AllocatorService(const RpcDispatcher::Options& options, AllocatorHandlers handlers,
                   SegmentHandlers segments)
      : handlers_(std::move(handlers)), segments_(segments), rpcs_(options) {}

  // Waits until no call is in progress, at most `timeout`. New calls are refused once the health
  // has failed.
  void WaitUntilIdle(absl::Duration timeout) const { rpcs_.WaitUntilIdle(timeout); }

  Reactor* OpenSession(Context* context, const v1::OpenSessionRequest* request,
                       v1::OpenSessionResponse* response) override {
    return rpcs_.Answer(context, handlers_, &AllocatorHandlers::OpenSession, request, response);
  }
  Reactor* KeepAlive(Context* context, const v1::KeepAliveRequest* request,
                     v1::KeepAliveResponse* response) override {
    return rpcs_.AnswerPrepaid(context, handlers_, &AllocatorHandlers::KeepAlive, request,
                               response);
  }
  Reactor* CloseSession(Context* context, const v1::CloseSessionRequest* request,
                        v1::CloseSessionResponse* response) override {
    return rpcs_.AnswerPrepaid(context, handlers_, &AllocatorHandlers::CloseSession, request,
                               response);
  }
  // A warm region answers on gRPC's thread; only a session that must grow waits for the driver.
  Reactor* Allocate(Context* context, const v1::AllocateRequest* request,
                    v1::AllocateResponse* response) override {
    return rpcs_.AnswerInTwoSteps(
        context, Metrics::Method::kAllocate,
        [=, this](const auto& caller) { return handlers_.Allocate(*caller, *request, *response); },
        [=, this](AllocatorHandlers::Growth growth) {
          return handlers_.Grow(std::move(growth), *response);
        });
  }
  Reactor* AllocateBatch(Context* context, const v1::AllocateBatchRequest* request,
                         v1::AllocateBatchResponse* response) override {
    return rpcs_.AnswerOnExecutor(context, handlers_, &AllocatorHandlers::AllocateBatch, request,
                                  response, Metrics::Method::kAllocate);
  }
  Reactor* Free(Context* context, const v1::FreeRequest* request,
                v1::FreeResponse* response) override {
    return rpcs_.AnswerPrepaid(context, handlers_, &AllocatorHandlers::Free, request, response,
                               Metrics::Method::kFree);
  }
  Reactor* FreeBatch(Context* context, const v1::FreeBatchRequest* request,
                     v1::FreeBatchResponse* response) override {
    return rpcs_.AnswerPrepaid(context, handlers_, &AllocatorHandlers::FreeBatch, request, response,
                               Metrics::Method::kFree);
  }
  Reactor* RequestRegionFd(Context* context, const v1::RequestRegionFdRequest* request,
                           v1::RequestRegionFdResponse* response) override {
    return rpcs_.Answer(context, handlers_, &AllocatorHandlers::RequestRegionFd, request, response);
  }
  Reactor* ReleaseRegions(Context* context, const v1::ReleaseRegionsRequest* request,
                          v1::ReleaseRegionsResponse* response) override {
    return rpcs_.AnswerPrepaid(context, handlers_, &AllocatorHandlers::ReleaseRegions, request,
                               response);
  }
  Reactor* PublishSegment(Context* context, const v1::PublishSegmentRequest* request,
                          v1::PublishSegmentResponse* response) override {
    return rpcs_.Answer(context, segments_, &SegmentHandlers::Publish, request, response);
  }
  Reactor* AttachSegment(Context* context, const v1::AttachSegmentRequest* request,
                         v1::AttachSegmentResponse* response) override {
    return rpcs_.Answer(context, segments_, &SegmentHandlers::Attach, request, response);
  }
  Reactor* DetachSegment(Context* context, const v1::DetachSegmentRequest* request,
                         v1::DetachSegmentResponse* response) override {
    return rpcs_.AnswerPrepaid(context, segments_, &SegmentHandlers::Detach, request, response);
  }
  Reactor* UnpublishSegment(Context* context, const v1::UnpublishSegmentRequest* request,
                            v1::UnpublishSegmentResponse* response) override {
    return rpcs_.AnswerPrepaid(context, segments_, &SegmentHandlers::Unpublish, request, response);
  }

 private:
  AllocatorHandlers handlers_;
  SegmentHandlers segments_;
  RpcDispatcher rpcs_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_ALLOCATOR_SERVICE_H_
