// A snapshot of everything that the daemon reports about itself.
#ifndef SERVER_REPORT_STATS_H_
#define SERVER_REPORT_STATS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/clock.h"
#include "common/heap/block_heap.h"
#include "server/keeper/fd_store.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"
#include "server/leases/recovery.h"
#include "server/memory/device_heap.h"
#include "server/memory/health.h"

namespace tenure::server {

// Whether memory of kind VMM_FD outlives the daemon's process.
enum class Survival {
  kOff,   // the daemon started without a supervisor
  kOn,    // a supervisor keeps the descriptors
  kLost,  // there was a supervisor, and it is gone
};

// "OFF", "ON", "LOST".
absl::string_view NameOf(Survival survival);

// Its parts are read one after the other, so sums across them may differ by a call in progress.
struct StatsSnapshot {
  DeviceHeap::Snapshot device;
  Bytes waiting;  // of the warm bytes, those that wait to be cleared or freed to the driver
  LeaseTotals leases;
  // Summed over all sessions, in ascending order of block size.
  std::vector<heap::PoolStats> pools;
  Survival survival = Survival::kOff;
  uint64_t stored_descriptors = 0;
  uint64_t max_stored_descriptors = 0;
};

// Reads the health, the heap, the registry and the descriptor store for the stats service, the
// metrics and /healthz.
//
// Borrows: everything it reads.
// Thread safety: thread-safe.
class Stats {
 public:
  Stats(const Health& health, DeviceHeap& heap, LeaseRegistry& registry, const FdStore* store,
        const RecoveryReport& recovery)
      : health_(health), heap_(heap), registry_(registry), store_(store), recovery_(recovery) {}

  // Whether the daemon grants memory. It answers without the driver.
  // Errors: UNAVAILABLE: it has failed, or drains; the message says which.
  absl::Status CheckServing() const;

  // Makes one driver call.
  // Errors: as DeviceHeap::TakeSnapshot.
  absl::StatusOr<StatsSnapshot> TakeSnapshot();
  const RecoveryReport& recovery() const { return recovery_; }

 private:
  const Health& health_;
  DeviceHeap& heap_;
  LeaseRegistry& registry_;
  const FdStore* const store_;
  const RecoveryReport& recovery_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_STATS_H_
