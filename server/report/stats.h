// The daemon's state as one picture.
#ifndef SERVER_REPORT_STATS_H_
#define SERVER_REPORT_STATS_H_

#include <cstdint>
#include <string>
#include <vector>

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

enum class Survival { kOff, kOn, kLost };

// "OFF", "ON", "LOST".
absl::string_view NameOf(Survival survival);

struct StatsPicture {
  DeviceHeap::Snapshot device;
  Bytes waiting;
  LeaseTotals leases;
  // Over all sessions, ascending by block size.
  std::vector<heap::PoolStats> pools;
  Survival survival = Survival::kOff;
  uint64_t stored_descriptors = 0;
  uint64_t max_stored_descriptors = 0;
};

// Reads heap and registry for the stats service and for the metrics.
//
// Borrows: everything it reads.
// Thread safety: thread-safe.
class Stats {
 public:
  Stats(DeviceHeap& heap, LeaseRegistry& registry, const FdStore& store,
        const RecoveryReport& recovered)
      : heap_(heap), registry_(registry), store_(store), recovered_(recovered) {}

  // Costs one driver call.
  // Errors: as DeviceHeap.
  absl::StatusOr<StatsPicture> Take();
  const RecoveryReport& recovered() const { return recovered_; }

 private:
  DeviceHeap& heap_;
  LeaseRegistry& registry_;
  const FdStore& store_;
  const RecoveryReport& recovered_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_STATS_H_
