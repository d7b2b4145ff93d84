#include "server/memory/device_heap.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/cuda/no_driver_calls.h"

namespace tenure::server {
namespace {

// The sizes that session pools grow by, most of them small because most sessions are: with these
// shares a reserve of 82 MiB holds sixteen first regions and two of each larger size.
constexpr std::array<std::pair<uint64_t, uint64_t>, 4> kReserveMix = {
    {{2, 16}, {4, 2}, {8, 2}, {16, 1}}};

std::map<Bytes, uint64_t> PlanReserve(Bytes target) {
  uint64_t mix_mib = 0;
  for (const auto& [size_mib, count] : kReserveMix) mix_mib += size_mib * count;
  const uint64_t whole_mixes = target.value() / MiB(mix_mib).value();
  std::map<Bytes, uint64_t> plan;
  for (const auto& [size_mib, count] : kReserveMix) plan[MiB(size_mib)] = whole_mixes * count;
  plan[kRegionUnit] += (target.value() - whole_mixes * MiB(mix_mib).value()) / kRegionUnit.value();
  return plan;
}

// The share of a size's planned regions under which a refill does not wait for the next look.
// Waking a thread costs a grant several microseconds, so one grant alone does not.
constexpr uint64_t kUrgentRefillPercent = 75;
constexpr int kSnapshotAttempts = 8;
// Well above what freeing or clearing a whole device takes.
constexpr absl::Duration kLongestDriverCall = absl::Seconds(2);

}  // namespace

void DeviceHeap::Shelf::Put(Region region) { by_size_[region.size()].push_back(std::move(region)); }

std::optional<Region> DeviceHeap::Shelf::Take(Bytes at_least, Bytes at_most) {
  const auto stack = by_size_.lower_bound(at_least);
  if (stack == by_size_.end() || stack->first > at_most) return std::nullopt;
  Region region = std::move(stack->second.back());
  stack->second.pop_back();
  if (stack->second.empty()) by_size_.erase(stack);
  return region;
}

std::optional<Region> DeviceHeap::Shelf::TakeLargestBeyond(
    const std::map<Bytes, uint64_t>& planned) {
  for (auto stack = by_size_.rbegin(); stack != by_size_.rend(); ++stack) {
    const auto plan = planned.find(stack->first);
    if (plan != planned.end() && stack->second.size() <= plan->second) continue;
    return Take(stack->first, stack->first);
  }
  return std::nullopt;
}

size_t DeviceHeap::Shelf::Count(Bytes size) const {
  const auto stack = by_size_.find(size);
  return stack == by_size_.end() ? 0 : stack->second.size();
}

std::vector<Region> DeviceHeap::Shelf::TakeAll() {
  std::vector<Region> all;
  for (auto& [size, stack] : by_size_) {
    for (Region& region : stack) all.push_back(std::move(region));
  }
  by_size_.clear();
  return all;
}

Bytes DeviceHeap::Shelf::Sum() const {
  Bytes sum;
  for (const auto& [size, stack] : by_size_) {
    for (const Region& region : stack) {
      TENURE_CHECK(region.size() == size);
      sum += size;
    }
  }
  return sum;
}

DeviceHeap::DeviceHeap(cuda::Device& device, Health& health, const Options& options)
    : device_(device),
      health_(health),
      epoch_(options.epoch),
      warm_limit_(options.warm_limit),
      tenant_limit_(options.tenant_limit),
      reserve_kind_(options.reserve_kind),
      max_vmm_regions_(options.max_vmm_regions),
      store_(options.store),
      plan_(PlanReserve(std::min(options.warm_reserve, options.warm_limit))) {}

DeviceHeap::~DeviceHeap() {
  Trim();
  absl::MutexLock lock(&mu_);
  // They go with the context.
  for (Region& region : retired_) {
    books_.quarantined -= region.size();
    region.Forget();
  }
  TENURE_CHECK(books_.reserved() == Bytes(0) && accounts_.empty());
}

std::optional<Region> DeviceHeap::TakeWarm(Bytes at_least, Bytes at_most, Tenant tenant,
                                           MemoryKind kind) {
  absl::MutexLock lock(&mu_);
  cuda::NoDriverCalls no_driver_calls;
  at_most = std::min(at_most, tenant_limit_ - HeldBy(tenant));
  if (at_least > at_most) return std::nullopt;
  std::optional<Region> region;
  const auto cached = cached_.find(tenant);
  if (cached != cached_.end()) region = cached->second[IndexOf(kind)].Take(at_least, at_most);
  if (!region) region = reserve_[IndexOf(kind)].Take(at_least, at_most);
  if (!region) return std::nullopt;
  TENURE_CHECK(Charge(tenant, region->size()));
  region->tenant_ = tenant;
  clean_bytes_ -= region->size();
  books_.warm -= region->size();
  books_.leased += region->size();
  return region;
}

absl::StatusOr<Region> DeviceHeap::TakeFromDriver(Bytes size, Tenant tenant, MemoryKind kind) {
  bool charged = false;
  {
    absl::MutexLock lock(&mu_);
    charged = Charge(tenant, size);
  }
  if (!charged) return OverLimit(tenant, size);
  absl::StatusOr<Region> region = Make(size, kind);
  // Idle memory of ours must never be the reason for a refusal, nor what is on its way to become
  // idle.
  while (absl::IsResourceExhausted(region.status()) && MakeRoom()) {
    region = Make(size, kind);
  }
  absl::Status refusal = region.status();
  if (absl::IsResourceExhausted(refusal)) refusal = Full(size);
  absl::MutexLock lock(&mu_);
  if (!refusal.ok()) {
    Refund(tenant, size);
    return refusal;
  }
  ++driver_changes_;
  books_.leased += size;
  region->tenant_ = tenant;
  return region;
}

void DeviceHeap::Return(Region region, bool unmapped) {
  absl::MutexLock lock(&mu_);
  books_.leased -= region.size();
  if (unmapped) region.shared_in_tenant_ = true;
  Enqueue(std::move(region), nullptr, unmapped ? dirty_ : condemned_);
}

void DeviceHeap::Quarantine(const Region& region) {
  absl::MutexLock lock(&mu_);
  books_.leased -= region.size();
  books_.quarantined += region.size();
}

void DeviceHeap::ReturnProven(Region region, std::function<void()> on_cleared) {
  absl::MutexLock lock(&mu_);
  books_.quarantined -= region.size();
  // Its proof is that of one process, and a descriptor may have been passed on to another: only the
  // driver knows when nobody has the memory any more.
  const bool alone = region.kind() != MemoryKind::kVmmFd;
  Enqueue(std::move(region), std::move(on_cleared), alone ? dirty_ : condemned_);
}

void DeviceHeap::ReturnUnproven(Region region) {
  absl::MutexLock lock(&mu_);
  books_.quarantined -= region.size();
  Enqueue(std::move(region), nullptr, condemned_);
}

void DeviceHeap::Enqueue(Region region, std::function<void()> on_cleared,
                         std::deque<Waiting>& queue) {
  Refund(region.tenant(), region.size());
  books_.warm += region.size();
  refill_paused_ = false;
  queue.push_back(Waiting{std::move(region), std::move(on_cleared)});
}

bool DeviceHeap::SupplyOnce() { return health_.Check().ok() && (FreeOne() || RefillOne()); }

bool DeviceHeap::ClearOnce() {
  if (!health_.Check().ok()) return false;
  std::optional<Waiting> dirty;
  {
    absl::MutexLock lock(&mu_);
    if (dirty_.empty()) return false;
    dirty.emplace(std::move(dirty_.front()));
    dirty_.pop_front();
    if (!MakeShelfRoom(dirty->region.size())) {
      // It would not be kept, so it need not be cleared: the driver isolates what it takes back.
      condemned_.push_back(*std::move(dirty));
      return true;
    }
    in_hand_ += dirty->region.size();
  }
  const absl::Status cleared = Clear(dirty->region);
  {
    absl::MutexLock lock(&mu_);
    in_hand_ -= dirty->region.size();
    if (!cleared.ok()) {
      // Nobody gets it, not even the driver, as long as this process lives.
      books_.warm -= dirty->region.size();
      books_.quarantined += dirty->region.size();
      retired_.push_back(std::move(dirty->region));
      return true;
    }
    if (!Keep(dirty->region)) {
      condemned_.push_back(*std::move(dirty));
      return true;
    }
  }
  if (dirty->on_cleared) dirty->on_cleared();
  return true;
}

bool DeviceHeap::FreeOne() {
  std::optional<Waiting> condemned;
  {
    absl::MutexLock lock(&mu_);
    if (condemned_.empty()) return false;
    condemned.emplace(std::move(condemned_.front()));
    condemned_.pop_front();
    in_hand_ += condemned->region.size();
  }
  FreeToDriver(*std::move(condemned));
  return true;
}

bool DeviceHeap::RefillOne() {
  Bytes missing;
  {
    absl::MutexLock lock(&mu_);
    missing = MissingReserve(100);
  }
  if (missing == Bytes(0)) return false;
  absl::StatusOr<Region> region = Make(missing, reserve_kind_);
  absl::MutexLock lock(&mu_);
  if (!region.ok()) {
    refill_paused_ = true;
    return true;
  }
  ++driver_changes_;
  books_.warm += missing;
  if (!Keep(*region)) condemned_.push_back(Waiting{*std::move(region), nullptr});
  return true;
}

void DeviceHeap::WaitForClearing(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(this, &DeviceHeap::HasToClear), timeout);
}

void DeviceHeap::WaitForSupply(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(this, &DeviceHeap::HasToSupply), timeout);
}

Bytes DeviceHeap::Trim() {
  std::vector<Waiting> all;
  {
    absl::MutexLock lock(&mu_);
    all = TakeAllWarm();
    refill_paused_ = true;
  }
  Bytes freed;
  for (Waiting& waiting : all) {
    freed += waiting.region.size();
    FreeToDriver(std::move(waiting));
  }
  return freed;
}

Books DeviceHeap::books() const {
  absl::MutexLock lock(&mu_);
  return books_;
}

Bytes DeviceHeap::waiting() const {
  absl::MutexLock lock(&mu_);
  return books_.warm - clean_bytes_;
}

absl::StatusOr<DeviceHeap::Snapshot> DeviceHeap::TakeSnapshot() {
  Snapshot snapshot;
  // The driver's count and ours belong to one moment only if no region was made or freed in
  // between.
  for (int attempt = 0; attempt < kSnapshotAttempts; ++attempt) {
    uint64_t before = 0;
    {
      absl::MutexLock lock(&mu_);
      before = driver_changes_;
    }
    const absl::StatusOr<cuda::MemoryInfo> memory = device_.GetMemoryInfo();
    if (!memory.ok()) {
      health_.Fail(memory.status());
      return memory.status();
    }
    absl::MutexLock lock(&mu_);
    snapshot = Snapshot{books_, memory->total, memory->free};
    if (driver_changes_ == before) break;
  }
  // Under a storm of changes the driver's count may be of a slightly earlier moment than ours; ours
  // is exact.
  snapshot.driver_free = std::min(snapshot.driver_free, snapshot.total - snapshot.books.reserved());
  return snapshot;
}

void DeviceHeap::CheckInvariants() const {
  absl::MutexLock lock(&mu_);
  Bytes clean;
  for (const Shelf& shelf : reserve_) clean += shelf.Sum();
  for (const auto& [tenant, shelves] : cached_) {
    for (const Shelf& shelf : shelves) clean += shelf.Sum();
  }
  TENURE_CHECK(clean == clean_bytes_);
  TENURE_CHECK(clean <= warm_limit_);
  Bytes warm = clean + in_hand_;
  for (const Waiting& waiting : dirty_) warm += waiting.region.size();
  for (const Waiting& waiting : condemned_) warm += waiting.region.size();
  TENURE_CHECK(warm == books_.warm);
  Bytes retired;
  for (const Region& region : retired_) retired += region.size();
  Bytes held;
  for (const auto& [tenant, bytes] : accounts_) {
    TENURE_CHECK(bytes > Bytes(0) && bytes <= tenant_limit_);
    held += bytes;
  }
  // What is being made for a tenant is on its account already.
  TENURE_CHECK(held + retired >= books_.leased + books_.quarantined);
}

bool DeviceHeap::Charge(Tenant tenant, Bytes size) {
  const Bytes held = HeldBy(tenant);
  if (size > tenant_limit_ - held) return false;
  accounts_[tenant] = held + size;
  return true;
}

void DeviceHeap::Refund(Tenant tenant, Bytes size) {
  const auto account = accounts_.find(tenant);
  TENURE_CHECK(account != accounts_.end());
  account->second -= size;
  if (account->second == Bytes(0)) accounts_.erase(account);
}

Bytes DeviceHeap::HeldBy(Tenant tenant) const {
  const auto account = accounts_.find(tenant);
  return account == accounts_.end() ? Bytes(0) : account->second;
}

absl::Status DeviceHeap::OverLimit(Tenant tenant, Bytes size) const {
  absl::MutexLock lock(&mu_);
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for ", FormatBytes(size), " (", size.value(), " bytes): ", tenant.ToString(),
      " holds ", FormatBytes(HeldBy(tenant)), " of the ", FormatBytes(tenant_limit_),
      " that one tenant may hold, what waits in quarantine included; close what is not "
      "needed (`tenurectl ps`), or raise --max-tenant-bytes"));
}

bool DeviceHeap::MakeShelfRoom(Bytes size) {
  Bytes planned;
  for (const auto& [planned_size, count] : plan_) {
    const uint64_t there =
        std::min<uint64_t>(reserve_[IndexOf(reserve_kind_)].Count(planned_size), count);
    planned += Bytes(planned_size.value() * there);
  }
  if (planned + size > warm_limit_) return false;
  while (clean_bytes_ + size > warm_limit_) {
    std::optional<Region> unplanned = TakeUnplanned();
    TENURE_CHECK(unplanned);
    clean_bytes_ -= unplanned->size();
    condemned_.push_back(Waiting{*std::move(unplanned), nullptr});
  }
  return true;
}

std::optional<Region> DeviceHeap::TakeUnplanned() {
  static const std::map<Bytes, uint64_t> kNothing;
  for (auto& [tenant, shelves] : cached_) {
    for (Shelf& shelf : shelves) {
      if (std::optional<Region> region = shelf.TakeLargestBeyond(kNothing)) return region;
    }
  }
  for (const MemoryKind kind : kMemoryKinds) {
    std::optional<Region> region =
        reserve_[IndexOf(kind)].TakeLargestBeyond(kind == reserve_kind_ ? plan_ : kNothing);
    if (region) return region;
  }
  return std::nullopt;
}

bool DeviceHeap::Keep(Region& region) {
  if (!MakeShelfRoom(region.size())) return false;
  clean_bytes_ += region.size();
  Shelves& shelves = region.shared_in_tenant() ? cached_[region.tenant()] : reserve_;
  shelves[IndexOf(region.kind())].Put(std::move(region));
  return true;
}

Bytes DeviceHeap::MissingReserve(uint64_t below_percent) const {
  if (refill_paused_) return Bytes(0);
  for (const auto& [size, count] : plan_) {
    if (reserve_[IndexOf(reserve_kind_)].Count(size) * 100 < count * below_percent) return size;
  }
  return Bytes(0);
}

bool DeviceHeap::HasToClear() const { return health_.Check().ok() && !dirty_.empty(); }

bool DeviceHeap::HasToSupply() const {
  return health_.Check().ok() &&
         (!condemned_.empty() || MissingReserve(kUrgentRefillPercent) != Bytes(0));
}

std::vector<DeviceHeap::Waiting> DeviceHeap::TakeAllWarm() {
  std::vector<Waiting> all;
  const auto empty = [&all](Shelves& shelves) {
    for (Shelf& shelf : shelves) {
      for (Region& region : shelf.TakeAll()) all.push_back(Waiting{std::move(region), nullptr});
    }
  };
  empty(reserve_);
  for (auto& [tenant, shelves] : cached_) empty(shelves);
  cached_.clear();
  clean_bytes_ = Bytes(0);
  for (std::deque<Waiting>* queue : {&dirty_, &condemned_}) {
    for (Waiting& waiting : *queue) all.push_back(std::move(waiting));
    queue->clear();
  }
  for (const Waiting& waiting : all) in_hand_ += waiting.region.size();
  return all;
}

bool DeviceHeap::MakeRoom() {
  bool waited = false;
  {
    absl::MutexLock lock(&mu_);
    waited = in_hand_ > Bytes(0);
    const auto nothing_in_hand = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return in_hand_ == Bytes(0);
    };
    mu_.AwaitWithTimeout(absl::Condition(&nothing_in_hand), kLongestDriverCall);
  }
  return Trim() > Bytes(0) || waited;
}

absl::Status DeviceHeap::Full(Bytes size) {
  const absl::StatusOr<Snapshot> now = TakeSnapshot();
  if (!now.ok()) return now.status();
  // Room in one piece is the driver's business: what is free may also be too scattered.
  const Bytes missing = size > now->driver_free ? size - now->driver_free : Bytes(0);
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for ", FormatBytes(size), " (", size.value(), " bytes): ", FormatBytes(missing),
      " more would have to be freed; of ", FormatBytes(now->total), " are ",
      FormatBytes(now->driver_free), " free, ", FormatBytes(now->books.leased), " leased, ",
      FormatBytes(now->books.quarantined), " quarantined and ", FormatBytes(now->other()),
      " used by other programs and contexts; free or close what is not needed "
      "(`tenurectl ps`), then repeat"));
}

absl::Status DeviceHeap::Clear(const Region& region) {
  absl::Status cleared = device_.Clear(region.base(), region.size());
  if (!cleared.ok()) health_.Fail(cleared);
  return cleared;
}

void DeviceHeap::FreeToDriver(Waiting waiting) {
  // Off the books first: meanwhile the bytes count as other, never as free and reserved at once.
  {
    absl::MutexLock lock(&mu_);
    ++driver_changes_;
    in_hand_ -= waiting.region.size();
    books_.warm -= waiting.region.size();
  }
  const absl::Status freed = FreeMemory(waiting.region);
  if (!freed.ok()) health_.Fail(freed);
  waiting.region.Forget();
  if (waiting.on_cleared) waiting.on_cleared();
}

}  // namespace tenure::server
