#include "server/admin_service.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "server/rpc.h"

namespace tenure::server {

absl::Status AdminService::CheckCaller(const grpc::CallbackServerContext& context) {
  const ConnectionTable::Caller caller = parts_.connections.Find(context.peer());
  if (!caller.ok()) return caller.status();
  const uid_t uid = (*caller)->uid();
  if (uid == 0 || uid == geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("uid ", uid,
                                                  " may not administer this daemon; root and uid ",
                                                  geteuid(), ", as which it runs, may"));
}

grpc::ServerUnaryReactor* AdminService::Trim(grpc::CallbackServerContext* context,
                                             const v1::TrimRequest*, v1::TrimResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (absl::Status allowed = CheckCaller(*context); !allowed.ok()) {
    reactor->Finish(ToGrpc(allowed));
    return reactor;
  }
  parts_.executor.Run([this, reactor, response] {
    response->set_freed_bytes(parts_.heap.Trim().value());
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Revoke(grpc::CallbackServerContext* context,
                                               const v1::RevokeRequest* request,
                                               v1::RevokeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = CheckCaller(*context);
  const std::shared_ptr<const Lease> lease =
      status.ok() ? parts_.registry.FindLease(request->session_id()) : nullptr;
  if (lease != nullptr) {
    response->set_pid(static_cast<uint32_t>(lease->peer()->pid()));
    status = lease->peer()->Kill();
  } else if (status.ok()) {
    status = absl::NotFoundError(
        absl::StrCat("there is no session ", request->session_id(), "; `tenurectl ps` lists them"));
  }
  reactor->Finish(ToGrpc(status));
  return reactor;
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest*,
                                              v1::DrainResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status allowed = CheckCaller(*context);
  if (allowed.ok()) {
    parts_.drain();
    const LeaseTotals totals = parts_.registry.totals();
    response->set_sessions(totals.active_sessions + totals.suspended_sessions);
  }
  reactor->Finish(ToGrpc(allowed));
  return reactor;
}

}  // namespace tenure::server
