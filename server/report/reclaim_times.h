// How long the memory of a dead client took to become usable again.
#ifndef SERVER_REPORT_RECLAIM_TIMES_H_
#define SERVER_REPORT_RECLAIM_TIMES_H_

#include <optional>

#include "absl/time/time.h"

#include "server/leases/lease.h"

namespace tenure::server {

struct ReclaimTimes {
  absl::Duration quarantined;  // from the exit until the regions are in quarantine
  absl::Duration proven;       // from the exit until the process is proven gone
  absl::Duration cleared;      // from that proof until the last region is cleared
};

// nullopt: there was no proof, so the regions went back to the driver.
inline std::optional<ReclaimTimes> ReclaimTimesOf(const Lease& lease) {
  if (lease.state() != LeaseState::kScrubbed) return std::nullopt;
  const BootTime exit = lease.entered(LeaseState::kOrphaned);
  const BootTime proof = lease.entered(LeaseState::kFenced);
  return ReclaimTimes{lease.entered(LeaseState::kQuarantined) - exit, proof - exit,
                      lease.entered(LeaseState::kScrubbed) - proof};
}

}  // namespace tenure::server

#endif  // SERVER_REPORT_RECLAIM_TIMES_H_
