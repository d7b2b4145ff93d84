// The log lines about events of clients.
#ifndef SERVER_REPORT_EVENT_LOG_H_
#define SERVER_REPORT_EVENT_LOG_H_

#include <sys/types.h>

#include "absl/status/status.h"

#include "server/identity/peer.h"
#include "server/leases/fence.h"
#include "server/leases/lease.h"

namespace tenure::server {

// Each writes one line for the operator. Thread safety: thread-safe.

// A connection of process `pid` (0: not identified) was cut. Limited to a line a second, after a
// burst of 20: a client that is cut may come back at once, and must not fill the log.
void LogCutConnection(pid_t pid, const absl::Status& why);
// The process of an overdue lease was killed, or could not be.
void LogHungClientKilled(const Lease& lease, const absl::Status& outcome);
// A second tenant has opened a session although CUDA_IPC handles do not isolate tenants.
void LogSecondTenant(Tenant tenant);
// The regions of a dead session have left quarantine.
void LogReclaimed(const QuarantineInfo& reclaimed);

}  // namespace tenure::server

#endif  // SERVER_REPORT_EVENT_LOG_H_
