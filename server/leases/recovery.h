// Taking up what an earlier life of the daemon has left.
#ifndef SERVER_LEASES_RECOVERY_H_
#define SERVER_LEASES_RECOVERY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "common/unique_fd.h"
#include "server/journal/journal_state.h"
#include "server/keeper/fd_store.h"
#include "server/leases/lease_journal.h"
#include "server/leases/lease_registry.h"
#include "server/memory/device_heap.h"

namespace tenure::server {

// What was taken up.
struct RecoveryReport {
  // 0: there was nothing to take up.
  Epoch previous_epoch = 0;
  uint64_t sessions = 0;
  uint64_t blocks = 0;
  uint64_t segments = 0;
  uint64_t regions = 0;
  Bytes bytes;
  // Processes that have died meanwhile; their sessions are among the above until they are
  // reclaimed.
  std::vector<ProcessKey> dead;
  std::vector<std::shared_ptr<const Peer>> living;
  // Named by the journal, and their descriptor was not there or names no memory any more.
  uint64_t lost_regions = 0;
  // Kept by the supervisor and of no use any more: warm regions, and what was on its way out.
  uint64_t closed_descriptors = 0;

  // One line for the log.
  std::string ToString() const;
};

// The epochs in the ids that the journal tells of: a new life needs another one.
std::set<Epoch> EpochsIn(const JournalState& state);

// Puts together what the journal says with the descriptors that the supervisor kept: sessions with
// their blocks, segments, attachments. A block whose descriptor is missing is lost, and so is a
// segment of which one is: their ids are answered like those of a life that is over. Descriptors
// that nobody has a claim to are closed, also here; the driver, which isolates by itself, has their
// memory then.
//
// Nothing else may use the parts yet.
RecoveryReport Recover(const JournalState& state, FdStore& store, DeviceHeap& heap,
                       LeaseRegistry& registry, LeaseJournal& journal);

}  // namespace tenure::server

#endif  // SERVER_LEASES_RECOVERY_H_
