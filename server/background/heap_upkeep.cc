#include "server/background/heap_upkeep.h"

#include "absl/time/time.h"

namespace tenure::server {
namespace {

// The heap wakes a thread early only for work that must not wait. Everything else is done after
// this time, which is also the longest that Stop waits for an idle thread.
constexpr absl::Duration kWaitForWork = absl::Milliseconds(100);

}  // namespace

void HeapUpkeep::Start() {
  clearing_ = std::thread([this] { ClearRegions(); });
  supply_ = std::thread([this] { SupplyRegions(); });
}

void HeapUpkeep::Stop() {
  stopping_ = true;
  if (clearing_.joinable()) clearing_.join();
  if (supply_.joinable()) supply_.join();
}

void HeapUpkeep::ClearRegions() {
  // One region at a time, so that Stop waits for one driver call at most.
  while (!stopping_) {
    if (!heap_.ClearOnce()) heap_.WaitForClearing(kWaitForWork);
  }
}

void HeapUpkeep::SupplyRegions() {
  while (!stopping_) {
    if (!heap_.SupplyOnce()) heap_.WaitForSupply(kWaitForWork);
  }
}

}  // namespace tenure::server
