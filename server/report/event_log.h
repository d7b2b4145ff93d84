// The log lines about events of clients.
#ifndef SERVER_REPORT_EVENT_LOG_H_
#define SERVER_REPORT_EVENT_LOG_H_

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/leases/fence.h"
#include "server/leases/lease.h"

namespace tenure::server {

// Each writes one line for the operator. Those about what a client may do at any rate are limited
// to a line a second, after a burst of 20, so that no client fills the log; the next line says how
// many were left out. Thread safety: thread-safe.

// A connection of process `pid` (0: not identified) was cut. Limited.
void LogCutConnection(pid_t pid, const absl::Status& why);
// A process of this uid could connect, and is not served. Limited.
void LogTurnedAway(uid_t uid, const absl::Status& why);
// A call was answered with an error: a warning if a limit or a right was met, else a debug line.
// Limited.
void LogRefused(const Peer& caller, const absl::Status& why);
// A session was opened or closed by its client. Limited.
void LogSessionOpened(const Peer& caller, SessionId session, absl::string_view name);
void LogSessionClosed(const Peer& caller, SessionId session);
// An operator's call, as in "trim", and its outcome.
void LogAdmin(const Peer& caller, absl::string_view call, const absl::Status& outcome);
// The regions of a dead session have been in quarantine for long.
void LogLongQuarantine(const QuarantineInfo& info);
// The process of an overdue lease was killed, or could not be.
void LogHungClientKilled(const Lease& lease, const absl::Status& outcome);
// For this time the daemon did not look after its sessions.
void LogPause(absl::Duration unwatched);
// A second tenant has opened a session although CUDA_IPC handles do not isolate tenants.
void LogSecondTenant(Tenant tenant);
// The regions of a dead session have left quarantine.
void LogReclaimed(const QuarantineInfo& reclaimed);

}  // namespace tenure::server

#endif  // SERVER_REPORT_EVENT_LOG_H_
