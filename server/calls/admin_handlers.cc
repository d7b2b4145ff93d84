#include "server/calls/admin_handlers.h"

#include <unistd.h>

#include <memory>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/report/event_log.h"

namespace tenure::server {

absl::Status AdminHandlers::CheckOperator(const Peer& caller) {
  if (caller.IsOperator()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("uid ", caller.uid(),
                                                  " may not administer this daemon; root and uid ",
                                                  geteuid(), ", as which it runs, may"));
}

absl::Status AdminHandlers::Trim(const Peer& caller, const v1::TrimRequest&,
                                 v1::TrimResponse& response) {
  TENURE_RETURN_IF_ERROR(CheckOperator(caller));
  response.set_freed_bytes(parts_.heap.Trim().value());
  LogAdmin(caller, absl::StrCat("trim, which freed ", response.freed_bytes(), " bytes"),
           absl::OkStatus());
  return absl::OkStatus();
}

absl::Status AdminHandlers::Revoke(const Peer& caller, const v1::RevokeRequest& request,
                                   v1::RevokeResponse& response) {
  TENURE_RETURN_IF_ERROR(CheckOperator(caller));
  const std::shared_ptr<const Lease> lease = parts_.registry.FindLease(request.session_id());
  if (lease == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no session ", request.session_id(), "; `tenurectl ps` lists them"));
  }
  response.set_pid(static_cast<uint32_t>(lease->peer()->pid()));
  // Nothing is taken from the session here: its process dies, and its regions return through the
  // fence as those of any dead process do.
  absl::Status killed = lease->peer()->Kill();
  LogAdmin(caller,
           absl::StrCat("revoke of session ", request.session_id(), " of process ",
                        lease->peer()->pid(), " of ", lease->peer()->tenant().ToString()),
           killed);
  return killed;
}

absl::Status AdminHandlers::Drain(const Peer& caller, const v1::DrainRequest&,
                                  v1::DrainResponse& response) {
  TENURE_RETURN_IF_ERROR(CheckOperator(caller));
  // First drain, then count: a session that opens in between would be missing from the answer.
  parts_.drain();
  const LeaseTotals totals = parts_.registry.totals();
  response.set_sessions(totals.active_sessions + totals.suspended_sessions);
  LogAdmin(caller, "drain", absl::OkStatus());
  return absl::OkStatus();
}

}  // namespace tenure::server
