#include "server/report/stats.h"

#include <map>

#include "common/status_macros.h"

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

absl::Status Stats::CheckServing() const {
  TENURE_RETURN_IF_ERROR(health_.Check());
  if (registry_.draining()) {
    return absl::UnavailableError(
        "draining: the daemon grants nothing new, and ends after the last session");
  }
  return absl::OkStatus();
}

absl::StatusOr<StatsSnapshot> Stats::TakeSnapshot() {
  StatsSnapshot snapshot;
  // The driver first: if it fails, the walk over the sessions is saved.
  TENURE_ASSIGN_OR_RETURN(snapshot.device, heap_.TakeSnapshot());
  // A map, so that the sums are in the order of the block sizes at the end.
  std::map<Bytes, heap::PoolStats> pools;
  // A copy of the list: the registry's lock has ended when the pools are asked, each under its own.
  for (const SessionInfo& session : registry_.ListSessions()) {
    for (const heap::PoolStats& one : session.pool->stats().blocks.pools) {
      heap::PoolStats& sum = pools[one.block_size];
      sum.block_size = one.block_size;
      sum.total_blocks += one.total_blocks;
      sum.allocated_blocks += one.allocated_blocks;
      sum.free_blocks += one.free_blocks;
    }
  }
  snapshot.waiting = heap_.waiting();
  snapshot.leases = registry_.totals();
  if (store_ != nullptr) {
    snapshot.survival = store_->CheckSupervisor().ok() ? Survival::kOn : Survival::kLost;
    snapshot.stored_descriptors = store_->size();
    snapshot.max_stored_descriptors = store_->max();
  }
  for (const auto& [size, pool] : pools) snapshot.pools.push_back(pool);
  return snapshot;
}

}  // namespace tenure::server
