#include "server/calls/allocator_service.h"

#include <memory>
#include <optional>

#include "absl/time/clock.h"

#include "server/calls/rpc.h"

namespace tenure::server {

class AllocatorService::Call {
 public:
  Call(grpc::CallbackServerContext* context, AllocatorService& service, Metrics::Method method)
      : reactor_(context->DefaultReactor()),
        service_(service),
        method_(method),
        start_(absl::Now()) {
    service_.under_way_.fetch_add(1, std::memory_order_relaxed);
  }

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // The last thing done with the call: request and response may be gone afterwards.
  void Finish(const absl::Status& status) {
    service_.parts_.metrics.RpcDone(method_, absl::Now() - start_);
    reactor_->Finish(ToGrpc(status));
    service_.under_way_.fetch_sub(1, std::memory_order_release);
  }

 private:
  grpc::ServerUnaryReactor* reactor_;
  AllocatorService& service_;
  Metrics::Method method_;
  absl::Time start_;
};

void AllocatorService::WaitUntilIdle(absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (under_way_.load(std::memory_order_acquire) > 0 && absl::Now() < end)
    absl::SleepFor(absl::Milliseconds(1));
}

ConnectionTable::Caller AllocatorService::Caller(const grpc::CallbackServerContext& context) const {
  if (absl::Status healthy = parts_.health.Check(); !healthy.ok()) return healthy;
  return parts_.connections.Find(context.peer());
}

template <typename Work>
grpc::ServerUnaryReactor* AllocatorService::AnswerHere(grpc::CallbackServerContext* context,
                                                       Metrics::Method method, const Work& work) {
  Call call(context, *this, method);
  const ConnectionTable::Caller caller = Caller(*context);
  call.Finish(caller.ok() ? work(*caller) : caller.status());
  return call.reactor();
}

template <typename Work>
grpc::ServerUnaryReactor* AllocatorService::AnswerLater(grpc::CallbackServerContext* context,
                                                        Metrics::Method method, Work work) {
  Call call(context, *this, method);
  const ConnectionTable::Caller caller = Caller(*context);
  if (caller.ok()) {
    parts_.executor.Run(
        [call, work = std::move(work), caller = *caller]() mutable { call.Finish(work(caller)); });
  } else {
    call.Finish(caller.status());
  }
  return call.reactor();
}

grpc::ServerUnaryReactor* AllocatorService::OpenSession(grpc::CallbackServerContext* context,
                                                        const v1::OpenSessionRequest* request,
                                                        v1::OpenSessionResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return calls_.OpenSession(caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::KeepAlive(grpc::CallbackServerContext* context,
                                                      const v1::KeepAliveRequest* request,
                                                      v1::KeepAliveResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return calls_.KeepAlive(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::CloseSession(grpc::CallbackServerContext* context,
                                                         const v1::CloseSessionRequest* request,
                                                         v1::CloseSessionResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return calls_.CloseSession(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::Allocate(grpc::CallbackServerContext* context,
                                                     const v1::AllocateRequest* request,
                                                     v1::AllocateResponse* response) {
  Call call(context, *this, Metrics::Method::kAllocate);
  grpc::ServerUnaryReactor* reactor = call.reactor();
  const ConnectionTable::Caller caller = Caller(*context);
  if (!caller.ok()) {
    call.Finish(caller.status());
    return reactor;
  }
  auto growth = calls_.Allocate(**caller, *request, *response);
  if (growth.ok() && growth->has_value()) {
    parts_.executor.Run([this, call, growth = **std::move(growth), response]() mutable {
      call.Finish(calls_.Grow(std::move(growth), *response));
    });
  } else {
    call.Finish(growth.status());
  }
  return reactor;
}

grpc::ServerUnaryReactor* AllocatorService::AllocateBatch(grpc::CallbackServerContext* context,
                                                          const v1::AllocateBatchRequest* request,
                                                          v1::AllocateBatchResponse* response) {
  return AnswerLater(context, Metrics::Method::kAllocate, [=, this](const auto& caller) {
    return calls_.AllocateBatch(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::Free(grpc::CallbackServerContext* context,
                                                 const v1::FreeRequest* request,
                                                 v1::FreeResponse* response) {
  return AnswerHere(context, Metrics::Method::kFree, [=, this](const auto& caller) {
    return calls_.Free(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::FreeBatch(grpc::CallbackServerContext* context,
                                                      const v1::FreeBatchRequest* request,
                                                      v1::FreeBatchResponse* response) {
  return AnswerHere(context, Metrics::Method::kFree, [=, this](const auto& caller) {
    return calls_.FreeBatch(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::RequestRegionFd(
    grpc::CallbackServerContext* context, const v1::RequestRegionFdRequest* request,
    v1::RequestRegionFdResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return calls_.RequestRegionFd(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::PublishSegment(grpc::CallbackServerContext* context,
                                                           const v1::PublishSegmentRequest* request,
                                                           v1::PublishSegmentResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return segments_.Publish(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::AttachSegment(grpc::CallbackServerContext* context,
                                                          const v1::AttachSegmentRequest* request,
                                                          v1::AttachSegmentResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return segments_.Attach(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::DetachSegment(grpc::CallbackServerContext* context,
                                                          const v1::DetachSegmentRequest* request,
                                                          v1::DetachSegmentResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return segments_.Detach(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::UnpublishSegment(
    grpc::CallbackServerContext* context, const v1::UnpublishSegmentRequest* request,
    v1::UnpublishSegmentResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return segments_.Unpublish(*caller, *request, *response);
  });
}

grpc::ServerUnaryReactor* AllocatorService::ReleaseRegions(grpc::CallbackServerContext* context,
                                                           const v1::ReleaseRegionsRequest* request,
                                                           v1::ReleaseRegionsResponse* response) {
  return AnswerHere(context, Metrics::Method::kOther, [=, this](const auto& caller) {
    return calls_.ReleaseRegions(*caller, *request, *response);
  });
}

}  // namespace tenure::server
