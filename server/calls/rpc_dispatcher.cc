#include "server/calls/rpc_dispatcher.h"

#include <string>

#include "absl/time/clock.h"
#include <grpcpp/support/status.h>

#include "common/status_macros.h"
#include "server/report/event_log.h"

namespace tenure::server {
namespace {

// Both number their codes as google.rpc.Code does.
grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

}  // namespace

RpcDispatcher::Call::Call(grpc::CallbackServerContext* context, RpcDispatcher& dispatcher,
                          Metrics::Method method)
    : reactor_(context->DefaultReactor()),
      dispatcher_(&dispatcher),
      method_(method),
      start_(SystemClock().Now()) {
  dispatcher_->in_progress_.fetch_add(1, std::memory_order_relaxed);
}

void RpcDispatcher::Call::Finish(const absl::Status& status) {
  Metrics* const metrics = dispatcher_->options_.metrics;
  // Before the answer: a client that has it finds its call in the metrics.
  if (metrics != nullptr) metrics->RpcDone(method_, SystemClock().Now() - start_);
  reactor_->Finish(ToGrpc(status));
  // After the answer: a daemon that is idle by this count has answered all calls.
  dispatcher_->in_progress_.fetch_sub(1, std::memory_order_release);
}

void RpcDispatcher::Call::Finish(const Peer& caller, const absl::Status& status) {
  if (!status.ok()) LogRefused(caller, status);
  Finish(status);
}

void RpcDispatcher::WaitUntilIdle(absl::Duration timeout) const {
  const SystemClock clock;
  const BootTime end = clock.Now() + timeout;
  while (in_progress_.load(std::memory_order_acquire) > 0 && clock.Now() < end)
    absl::SleepFor(absl::Milliseconds(1));
}

ConnectionTable::Caller RpcDispatcher::CheckedCaller(const grpc::CallbackServerContext& context,
                                                     bool prepaid) const {
  // Health comes first: a daemon that has failed charges no request to the caller's tenant.
  if (options_.health != nullptr) TENURE_RETURN_IF_ERROR(options_.health->Check());
  ConnectionTable::Caller caller = prepaid ? options_.connections.FindPrepaid(context.peer())
                                           : options_.connections.Find(context.peer());
  if (caller.ok() && options_.check_caller != nullptr)
    TENURE_RETURN_IF_ERROR(options_.check_caller(**caller));
  return caller;
}

}  // namespace tenure::server
