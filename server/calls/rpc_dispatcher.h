// The one way in which an RPC is answered.
#ifndef SERVER_CALLS_RPC_DISPATCHER_H_
#define SERVER_CALLS_RPC_DISPATCHER_H_

#include <atomic>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "common/clock.h"
#include "server/calls/executor.h"
#include "server/identity/peer.h"
#include "server/memory/health.h"
#include "server/report/metrics.h"
#include "server/transport/connection_table.h"

namespace tenure::server {

// Stands between gRPC's reactors and the handlers, which know neither gRPC nor threads. For each
// call it finds the process behind the connection, checks it, runs a handler with the caller, the
// request and the response, and finishes the reactor once with the status that the handler
// returned. A call that fails a check never reaches its handler or the executor.
//
// A handler is a member function `absl::Status (Caller, const Request&, Response&)`, where Caller
// is `const Peer&` or `const std::shared_ptr<const Peer>&`.
//
// Borrows: everything in Options, and the handlers until their calls have finished.
// Thread safety: thread-safe. Answer runs the handler on gRPC's thread, AnswerOnExecutor on one of
//     the executor's threads.
// Errors: as Health, ConnectionTable::Find and check_caller, in this order; else as the handler.
class RpcDispatcher {
 public:
  struct Options {
    ConnectionTable& connections;
    Executor& executor;
    // Calls are refused once this has failed. Null: they are answered all the same.
    const Health* health = nullptr;
    // Which callers may use the service. Null: all that could connect.
    absl::Status (*check_caller)(const Peer&) = nullptr;
    // Where the time of each call is counted. Null: nowhere.
    Metrics* metrics = nullptr;
  };

  explicit RpcDispatcher(const Options& options) : options_(options) {}

  // For a handler that makes no driver call, or a quick one such as cuMemGetInfo.
  template <typename Handlers, typename Caller, typename Request, typename Response>
  grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, Handlers& handlers,
                                   absl::Status (Handlers::*handler)(Caller, const Request&,
                                                                     Response&),
                                   const Request* request, Response* response,
                                   Metrics::Method method = Metrics::Method::kOther) {
    Call call(context, *this, method);
    const ConnectionTable::Caller caller = CheckedCaller(*context);
    if (!caller.ok()) {
      call.Finish(caller.status());
    } else {
      call.Finish(**caller, (handlers.*handler)(As<Caller>(*caller), *request, *response));
    }
    return call.reactor();
  }

  // For a call that gives back or renews what an earlier request has paid for: it is not refused
  // for its tenant's rate. The handler says at its end, by its last parameter, whether that was so.
  // If not, the request is counted then, and beyond the rate the connection is cut. The rate
  // therefore limits the calls that give back nothing, and none that gives back something is lost.
  template <typename Handlers, typename Request, typename Response>
  grpc::ServerUnaryReactor* AnswerPrepaid(grpc::CallbackServerContext* context, Handlers& handlers,
                                          absl::Status (Handlers::*handler)(const Peer&,
                                                                            const Request&,
                                                                            Response&, bool&),
                                          const Request* request, Response* response,
                                          Metrics::Method method = Metrics::Method::kOther) {
    Call call(context, *this, method);
    const ConnectionTable::Caller caller = CheckedCaller(*context, /*prepaid=*/true);
    if (!caller.ok()) {
      call.Finish(caller.status());
      return call.reactor();
    }
    bool prepaid = false;
    const absl::Status status = (handlers.*handler)(**caller, *request, *response, prepaid);
    // Before the answer: gRPC keeps the connection's number as long as the call is under way.
    if (!prepaid) options_.connections.ChargeLater(context->peer());
    call.Finish(**caller, status);
    return call.reactor();
  }

  // For a handler that may wait for the driver.
  template <typename Handlers, typename Caller, typename Request, typename Response>
  grpc::ServerUnaryReactor* AnswerOnExecutor(
      grpc::CallbackServerContext* context, Handlers& handlers,
      absl::Status (Handlers::*handler)(Caller, const Request&, Response&), const Request* request,
      Response* response, Metrics::Method method = Metrics::Method::kOther) {
    using Peers = std::optional<std::shared_ptr<const Peer>>;
    return AnswerInTwoSteps(
        context, method,
        [](const std::shared_ptr<const Peer>& caller) { return absl::StatusOr<Peers>(caller); },
        [=, &handlers](const std::shared_ptr<const Peer>& caller) {
          return (handlers.*handler)(As<Caller>(caller), *request, *response);
        });
  }

  // For work that only sometimes needs the driver. `first(caller)` runs on gRPC's thread and
  // returns an absl::StatusOr<std::optional<Rest>>. A failure or std::nullopt is the answer;
  // otherwise `then(rest)` runs on the executor, and its absl::Status is the answer.
  template <typename First, typename Then>
  grpc::ServerUnaryReactor* AnswerInTwoSteps(grpc::CallbackServerContext* context,
                                             Metrics::Method method, const First& first,
                                             Then then) {
    Call call(context, *this, method);
    const ConnectionTable::Caller caller = CheckedCaller(*context);
    if (!caller.ok()) {
      call.Finish(caller.status());
      return call.reactor();
    }
    auto rest = first(*caller);
    if (rest.ok() && rest->has_value()) {
      options_.executor.Run(
          [call, caller = *caller, then = std::move(then), rest = **std::move(rest)]() mutable {
            call.Finish(*caller, then(std::move(rest)));
          });
    } else {
      call.Finish(**caller, rest.status());
    }
    // The executor may have finished the reactor by now, which gRPC allows.
    return call.reactor();
  }

  // Waits until no call is in progress, at most `timeout`.
  void WaitUntilIdle(absl::Duration timeout) const;

 private:
  // One RPC in progress.
  class Call {
   public:
    Call(grpc::CallbackServerContext* context, RpcDispatcher& dispatcher, Metrics::Method method);
    grpc::ServerUnaryReactor* reactor() const { return reactor_; }
    // REQUIRES: not called before. The last use of the request and the response, which gRPC may
    // destroy before this returns.
    void Finish(const absl::Status& status);
    // The same, and a line in the log if it is an error.
    void Finish(const Peer& caller, const absl::Status& status);

   private:
    grpc::ServerUnaryReactor* reactor_;
    RpcDispatcher* dispatcher_;
    Metrics::Method method_;
    BootTime start_;
  };

  template <typename Caller>
  static Caller As(const std::shared_ptr<const Peer>& peer) {
    if constexpr (std::is_same_v<Caller, const Peer&>) {
      return *peer;
    } else {
      return peer;
    }
  }

  // `prepaid`: without counting the request.
  ConnectionTable::Caller CheckedCaller(const grpc::CallbackServerContext& context,
                                        bool prepaid = false) const;

  const Options options_;
  std::atomic<int> in_progress_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_RPC_DISPATCHER_H_
