#include "server/report/stats.h"

#include <map>

namespace tenure::server {

absl::string_view NameOf(Survival survival) {
  switch (survival) {
    case Survival::kOff:
      return "OFF";
    case Survival::kOn:
      return "ON";
    case Survival::kLost:
      return "LOST";
  }
  return "";
}

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
  StatsPicture picture;
  picture.device = *device;
  picture.waiting = heap_.waiting();
  picture.leases = registry_.totals();
  if (store_.available()) {
    picture.survival = store_.CheckSupervisor().ok() ? Survival::kOn : Survival::kLost;
    picture.stored_descriptors = store_.size();
    picture.max_stored_descriptors = store_.max();
  }
  for (const auto& [size, pool] : pools) picture.pools.push_back(pool);
  return picture;
}

}  // namespace tenure::server
