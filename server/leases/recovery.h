// Recovery: restoring the sessions and segments of an earlier life of the daemon.
#ifndef SERVER_LEASES_RECOVERY_H_
#define SERVER_LEASES_RECOVERY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/bytes.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/journal/journal_state.h"
#include "server/keeper/fd_store.h"
#include "server/leases/kept_memory.h"
#include "server/leases/lease_journal.h"
#include "server/leases/lease_registry.h"
#include "server/memory/device_heap.h"

namespace tenure::server {

// The outcome of a recovery.
struct RecoveryReport {
  // 0 when there was no earlier life.
  Epoch previous_epoch = 0;
  // Counts of restored sessions, blocks, segments and regions; the bytes of the regions.
  uint64_t sessions = 0;
  uint64_t blocks = 0;
  uint64_t segments = 0;
  uint64_t regions = 0;
  Bytes bytes;
  // The processes of the restored sessions. A session of a dead process is counted above, and stays
  // until the registry reclaims it.
  std::vector<ProcessKey> dead;
  std::vector<std::shared_ptr<const Peer>> living;
  // Regions in the journal whose descriptor the supervisor did not keep, or whose descriptor is
  // proven to name no memory.
  uint64_t lost_regions = 0;
  // Descriptors that the supervisor kept although no session and no segment has their region: warm
  // regions, and regions on their way to the driver.
  uint64_t closed_descriptors = 0;

  // One line for the log.
  std::string ToString() const;
};

// Restores the sessions with their blocks, the segments, the attachments and the claims that the
// journal names, with the memory that was kept.
//
// A block whose descriptor is missing is lost, and so is a segment when the descriptor of one of
// its blocks is missing. The journal is told, so that no later life looks for them. An id of a
// lost block gets the same answer as any other id of an earlier life. Descriptors without an owner
// are closed here and at the supervisor; then the driver has their memory back, and isolates it.
//
// REQUIRES: the parts were not used before.
// Errors: as Peer::OfProcess when it cannot tell whether a process lives; then nothing was restored
// and nothing given up. A record that cannot be written fails the health.
absl::StatusOr<RecoveryReport> Restore(const JournalState& state, KeptMemory kept, FdStore& store,
                                       DeviceHeap& heap, LeaseRegistry& registry,
                                       LeaseJournal& journal);

}  // namespace tenure::server

#endif  // SERVER_LEASES_RECOVERY_H_
