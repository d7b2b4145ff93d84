#include "server/memory/device_heap.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"
#include "common/status_macros.h"

namespace tenure::server {
namespace {

// The share of a size's planned regions below which a refill does not wait for the next look. To
// wake a thread costs a grant several microseconds, so one grant alone does not.
constexpr uint64_t kUrgentRefillPercent = 75;
constexpr int kSnapshotAttempts = 8;
// Well above the time that it takes to free or clear a whole device.
constexpr absl::Duration kLongestDriverCall = absl::Seconds(2);

}  // namespace

DeviceHeap::DeviceHeap(cuda::Device& device, Health& health, const Options& options)
    : device_(device),
      health_(health),
      reserve_kind_(options.reserve_kind),
      driver_(device, health, {options.epoch, options.max_vmm_regions, options.store}),
      accounts_(options.tenant_limit),
      clean_(options.warm_limit, options.warm_reserve, options.reserve_kind) {}

DeviceHeap::~DeviceHeap() {
  Trim();
  cuda::NoDriverCallsLock lock(&mu_);
  // The driver failed to clear these, so it is not asked to free them: they end with the context.
  for (Region& region : retired_) {
    books_.quarantined -= region.size();
    region.MarkFreed();
  }
  TENURE_CHECK(books_.reserved() == Bytes(0) && accounts_.empty());
}

std::optional<Region> DeviceHeap::TakeWarm(Bytes at_least, Bytes at_most, Tenant tenant,
                                           MemoryKind kind) {
  cuda::NoDriverCallsLock lock(&mu_);
  // A region may be larger than needed, and all of it is charged. So the account limits the
  // search, and the charge below always succeeds.
  at_most = std::min(at_most, accounts_.Room(tenant));
  if (at_least > at_most) return std::nullopt;
  std::optional<Region> region = clean_.Take(at_least, at_most, tenant, kind);
  if (!region) return std::nullopt;
  TENURE_CHECK(accounts_.Charge(tenant, region->size()));
  region->tenant_ = tenant;
  books_.warm -= region->size();
  books_.leased += region->size();
  Wake();
  return region;
}

absl::StatusOr<Region> DeviceHeap::TakeFromDriver(Bytes size, Tenant tenant, MemoryKind kind) {
  {
    cuda::NoDriverCallsLock lock(&mu_);
    // Charged before the driver call, not after it: two threads of one tenant could otherwise both
    // find room for one region, and exceed the limit together.
    if (!accounts_.Charge(tenant, size)) return accounts_.Refusal(tenant, size);
  }
  absl::StatusOr<Region> region = driver_.Make(size, kind);
  // No request is refused while there is idle memory, or memory that another thread is just
  // freeing. More than one attempt: other threads may take the memory that was freed here.
  while (absl::IsResourceExhausted(region.status()) && FreeIdleMemory()) {
    region = driver_.Make(size, kind);
  }
  absl::Status refusal = region.status();
  // DeviceFull asks the driver for its count, so it comes before the lock.
  if (absl::IsResourceExhausted(refusal)) refusal = DeviceFull(size);
  cuda::NoDriverCallsLock lock(&mu_);
  if (!refusal.ok()) {
    accounts_.Refund(tenant, size);
    return refusal;
  }
  ++driver_changes_;
  books_.leased += size;
  region->tenant_ = tenant;
  return region;
}

Region DeviceHeap::RestoreRegion(RegionId id, ExportedVmm memory, Tenant tenant) {
  Region region = driver_.Restore(id, std::move(memory));
  region.tenant_ = tenant;
  cuda::NoDriverCallsLock lock(&mu_);
  accounts_.ChargeRestored(tenant, region.size());
  ++driver_changes_;
  books_.leased += region.size();
  return region;
}

void DeviceHeap::Return(Region region, bool unmapped) {
  cuda::NoDriverCallsLock lock(&mu_);
  books_.leased -= region.size();
  // The session's statement that it unmapped the region is enough for its own tenant, which could
  // only harm itself. It is no proof for any other. Nor is it for memory by descriptor, which a
  // process of another user may have mapped by now (invariant 3).
  const bool may_serve_again = unmapped && region.kind() != MemoryKind::kVmmFd;
  if (may_serve_again) region.shared_in_tenant_ = true;
  Enqueue(std::move(region), nullptr, may_serve_again ? to_clear_ : to_free_);
}

void DeviceHeap::Quarantine(const Region& region) {
  cuda::NoDriverCallsLock lock(&mu_);
  // It stays on its tenant's account: a tenant whose processes die without a proof must not get
  // fresh memory for each of them.
  books_.leased -= region.size();
  books_.quarantined += region.size();
}

void DeviceHeap::ReturnProven(Region region, OnCleared on_cleared) {
  cuda::NoDriverCallsLock lock(&mu_);
  books_.quarantined -= region.size();
  // The proof is about one process, and a descriptor may have been passed on to another. Only the
  // driver knows when the last process has unmapped such memory, so it takes it (invariant 3).
  const bool may_serve_again = region.kind() != MemoryKind::kVmmFd;
  Enqueue(std::move(region), std::move(on_cleared), may_serve_again ? to_clear_ : to_free_);
}

void DeviceHeap::ReturnUnproven(Region region) {
  cuda::NoDriverCallsLock lock(&mu_);
  books_.quarantined -= region.size();
  Enqueue(std::move(region), nullptr, to_free_);
}

void DeviceHeap::Enqueue(Region region, OnCleared on_cleared, std::deque<Returned>& list) {
  accounts_.Refund(region.tenant(), region.size());
  books_.warm += region.size();
  refill_paused_ = false;
  list.push_back(Returned{std::move(region), std::move(on_cleared)});
  Wake();
}

std::optional<DeviceHeap::Returned> DeviceHeap::TakeOldest(std::deque<Returned>& list) {
  if (list.empty()) return std::nullopt;
  Returned oldest = std::move(list.front());
  list.pop_front();
  busy_bytes_ += oldest.region.size();
  return oldest;
}

bool DeviceHeap::ClearOnce() {
  if (!health_.Check().ok()) return false;
  std::optional<Returned> dirty;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    if (to_clear_.empty()) return false;
    // A region that will not be kept need not be cleared: the driver isolates all that is freed
    // to it.
    if (!MakeCleanRoom(to_clear_.front().region.size())) {
      to_free_.push_back(std::move(to_clear_.front()));
      to_clear_.pop_front();
      Wake();
      return true;
    }
    dirty = TakeOldest(to_clear_);
    Wake();  // clean regions may have been displaced
  }
  const absl::Status cleared = driver_.Clear(dirty->region);
  {
    cuda::NoDriverCallsLock lock(&mu_);
    busy_bytes_ -= dirty->region.size();
    if (!cleared.ok()) {
      // It may hold the last session's data, so no other session gets it. Nor does the driver: its
      // context is lost. The region waits for the end of the process.
      books_.warm -= dirty->region.size();
      books_.quarantined += dirty->region.size();
      retired_.push_back(std::move(dirty->region));
      Wake();
      return true;
    }
    // The room that was made above may have gone to a region of the reserve meanwhile.
    const bool kept = PutClean(dirty->region);
    if (!kept) to_free_.push_back(*std::move(dirty));
    Wake();
    if (!kept) return true;
  }
  // After the lock: the completion belongs to another room and may take locks of its own.
  if (dirty->on_cleared) std::move(dirty->on_cleared)();
  return true;
}

bool DeviceHeap::FreeOne() {
  std::optional<Returned> oldest;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    oldest = TakeOldest(to_free_);
  }
  if (!oldest) return false;
  FreeToDriver(*std::move(oldest));
  return true;
}

bool DeviceHeap::RefillOne() {
  Bytes missing;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    missing = MissingReserve(100);
  }
  if (missing == Bytes(0)) return false;
  absl::StatusOr<Region> region = driver_.Make(missing, reserve_kind_);
  cuda::NoDriverCallsLock lock(&mu_);
  if (!region.ok()) {
    // The thread that calls this would otherwise ask a full device again at once, and for ever.
    refill_paused_ = true;
    return true;
  }
  ++driver_changes_;
  books_.warm += missing;
  if (!PutClean(*region)) to_free_.push_back(Returned{*std::move(region), nullptr});
  Wake();
  return true;
}

void DeviceHeap::FreeToDriver(Returned returned) {
  const Bytes size = returned.region.size();
  {
    cuda::NoDriverCallsLock lock(&mu_);
    // Off the books before the driver call: meanwhile the bytes count as used by others. The other
    // order would count them twice for a moment, as reserved here and as free with the driver.
    ++driver_changes_;
    books_.warm -= size;
    busy_bytes_ -= size;
    freeing_bytes_ += size;
  }
  driver_.Free(std::move(returned.region));
  {
    cuda::NoDriverCallsLock lock(&mu_);
    freeing_bytes_ -= size;
    Wake();
  }
  if (returned.on_cleared) std::move(returned.on_cleared)();
}

void DeviceHeap::WaitForClearing(absl::Duration timeout) const {
  cuda::NoDriverCallsLock lock(&mu_);
  has_to_clear_.AwaitFor(mu_, absl::Condition(this, &DeviceHeap::HasToClear), timeout);
}

void DeviceHeap::WaitForSupply(absl::Duration timeout) const {
  cuda::NoDriverCallsLock lock(&mu_);
  has_to_supply_.AwaitFor(mu_, absl::Condition(this, &DeviceHeap::HasToSupply), timeout);
}

// The two conditions are evaluated under mu_, so they take no lock but that of the health. After a
// failure nothing is to be done, and the waiting threads sleep.
bool DeviceHeap::HasToClear() const { return health_.Check().ok() && !to_clear_.empty(); }

bool DeviceHeap::HasToSupply() const {
  return health_.Check().ok() &&
         (!to_free_.empty() || MissingReserve(kUrgentRefillPercent) != Bytes(0));
}

void DeviceHeap::Wake() {
  if (HasToClear()) has_to_clear_.SignalAll();
  if (HasToSupply()) has_to_supply_.SignalAll();
  if (NoneBusy()) none_busy_.SignalAll();
}

Bytes DeviceHeap::Trim() {
  std::vector<Returned> all;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    all = TakeAllIdle();
    // The supplying thread would otherwise take the freed memory again at once.
    refill_paused_ = true;
  }
  Bytes freed;
  for (Returned& returned : all) {
    freed += returned.region.size();
    FreeToDriver(std::move(returned));
  }
  return freed;
}

Books DeviceHeap::books() const {
  cuda::NoDriverCallsLock lock(&mu_);
  return books_;
}

Bytes DeviceHeap::waiting() const {
  cuda::NoDriverCallsLock lock(&mu_);
  return books_.warm - clean_.bytes();
}

absl::StatusOr<DeviceHeap::Snapshot> DeviceHeap::TakeSnapshot() const {
  Snapshot snapshot;
  // The driver cannot be asked under the lock, so a region may be made or freed between its count
  // and the books. Then the two are not of one moment, and both are read again.
  for (int attempt = 0; attempt < kSnapshotAttempts; ++attempt) {
    uint64_t before = 0;
    {
      cuda::NoDriverCallsLock lock(&mu_);
      before = driver_changes_;
    }
    const absl::StatusOr<cuda::MemoryInfo> memory = device_.GetMemoryInfo();
    if (!memory.ok()) {
      health_.Fail(memory.status());
      return memory.status();
    }
    cuda::NoDriverCallsLock lock(&mu_);
    snapshot = Snapshot{books_, memory->total, memory->free};
    if (driver_changes_ == before) break;
  }
  // If regions change all the time, the last reading is used. The books are exact, and the driver's
  // count may be of an earlier moment. So the count is corrected: other() must not become negative.
  snapshot.driver_free = std::min(snapshot.driver_free, snapshot.total - snapshot.books.reserved());
  return snapshot;
}

void DeviceHeap::CheckInvariants() const {
  cuda::NoDriverCallsLock lock(&mu_);
  clean_.CheckInvariants();
  Bytes warm = clean_.bytes() + busy_bytes_;
  for (const Returned& returned : to_clear_) warm += returned.region.size();
  for (const Returned& returned : to_free_) warm += returned.region.size();
  TENURE_CHECK(warm == books_.warm);
  Bytes retired;
  for (const Region& region : retired_) retired += region.size();
  // Not equal: a region that is being made for a tenant is on its account already, but not yet
  // leased.
  TENURE_CHECK(accounts_.Sum() + retired >= books_.leased + books_.quarantined);
}

bool DeviceHeap::MakeCleanRoom(Bytes size) {
  std::vector<Region> displaced;
  const bool room = clean_.MakeRoom(size, displaced);
  // They stay warm on the books: only the list changes.
  for (Region& region : displaced) to_free_.push_back(Returned{std::move(region), nullptr});
  return room;
}

bool DeviceHeap::PutClean(Region& region) {
  if (!MakeCleanRoom(region.size())) return false;
  clean_.Put(std::move(region));
  return true;
}

std::vector<DeviceHeap::Returned> DeviceHeap::TakeAllIdle() {
  std::vector<Returned> all;
  for (Region& region : clean_.TakeAll()) all.push_back(Returned{std::move(region), nullptr});
  for (std::deque<Returned>* list : {&to_clear_, &to_free_}) {
    for (Returned& returned : *list) all.push_back(std::move(returned));
    list->clear();
  }
  for (const Returned& returned : all) busy_bytes_ += returned.region.size();
  return all;
}

bool DeviceHeap::FreeIdleMemory() {
  bool waited = false;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    waited = !NoneBusy();
    // A busy region is on no list, so Trim() does not find it. Wait until it is freed, or cleared
    // and on a list again. The time is limited, because other threads may always have something
    // busy.
    none_busy_.AwaitFor(mu_, absl::Condition(this, &DeviceHeap::NoneBusy), kLongestDriverCall);
  }
  // Trim() always runs: memory may have become idle meanwhile.
  return Trim() > Bytes(0) || waited;
}

absl::Status DeviceHeap::DeviceFull(Bytes size) const {
  TENURE_ASSIGN_OR_RETURN(const Snapshot now, TakeSnapshot());
  // 0 when the free memory would be enough but is not in one piece, which only the driver knows.
  const Bytes missing = size > now.driver_free ? size - now.driver_free : Bytes(0);
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for ", FormatBytes(size), " (", size.value(), " bytes): ", FormatBytes(missing),
      " more would have to be freed; of ", FormatBytes(now.total), " are ",
      FormatBytes(now.driver_free), " free, ", FormatBytes(now.books.leased), " leased, ",
      FormatBytes(now.books.quarantined), " quarantined and ", FormatBytes(now.other()),
      " used by other programs and contexts; free blocks or close sessions that are not needed "
      "(`tenurectl ps`), then repeat"));
}

}  // namespace tenure::server
