#include "server/stats.h"

#include <map>

namespace tenure::server {

absl::StatusOr<StatsPicture> Stats::Take() {
  absl::StatusOr<DeviceHeap::Snapshot> device = heap_.TakeSnapshot();
  if (!device.ok()) return device.status();
  std::map<Bytes, heap::PoolStats> pools;
  for (const SessionInfo& session : registry_.ListSessions()) {
    for (const heap::PoolStats& one : session.pool->stats().blocks.pools) {
      heap::PoolStats& sum = pools[one.block_size];
      sum.block_size = one.block_size;
      sum.total_blocks += one.total_blocks;
      sum.allocated_blocks += one.allocated_blocks;
      sum.free_blocks += one.free_blocks;
    }
  }
  StatsPicture picture{*device, heap_.waiting(), registry_.totals(), {}};
  for (const auto& [size, pool] : pools) picture.pools.push_back(pool);
  return picture;
}

}  // namespace tenure::server
