// The daemon's state as one picture.
#ifndef SERVER_STATS_H_
#define SERVER_STATS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "common/clock.h"
#include "common/heap/block_heap.h"
#include "server/device_heap.h"
#include "server/fence.h"
#include "server/health.h"
#include "server/lease_registry.h"

namespace tenure::server {

struct StatsPicture {
  DeviceHeap::Snapshot device;
  Bytes waiting;
  LeaseTotals leases;
  // Over all sessions, ascending by block size.
  std::vector<heap::PoolStats> pools;
};

// Reads heap and registry for the stats service and for the metrics.
//
// Borrows: everything it reads.
// Thread safety: thread-safe.
class Stats {
 public:
  Stats(DeviceHeap& heap, LeaseRegistry& registry) : heap_(heap), registry_(registry) {}

  // Costs one driver call.
  // Errors: as DeviceHeap.
  absl::StatusOr<StatsPicture> Take();

 private:
  DeviceHeap& heap_;
  LeaseRegistry& registry_;
};

}  // namespace tenure::server

#endif  // SERVER_STATS_H_
