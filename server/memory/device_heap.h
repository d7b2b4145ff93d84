// All device memory that the daemon owns, region by region.
#ifndef SERVER_MEMORY_DEVICE_HEAP_H_
#define SERVER_MEMORY_DEVICE_HEAP_H_

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/memory_kind.h"
#include "common/timed_cond_var.h"
#include "common/unique_fd.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/keeper/fd_store.h"
#include "server/memory/books.h"
#include "server/memory/clean_regions.h"
#include "server/memory/health.h"
#include "server/memory/region.h"
#include "server/memory/region_driver.h"
#include "server/memory/tenant_accounts.h"

namespace tenure::server {

// The regions of one device: takes them from the driver, leases them to tenants, clears those that
// come back, keeps some of them warm and frees the rest to the driver. It knows tenants, but no
// sessions and no leases.
//
// Hides: where a region is, and how it moves. A region is in exactly one of these places:
//
//   being made    in the thread that called the driver; not in the books yet
//   leased        with its holder: a session's pool or a segment
//   quarantined   with its holder: the fence, until it has proof that the dead process is gone
//   to_clear_     returned; may serve again once it is all zero
//   to_free_      only the driver may have it next
//   busy          on no list: one thread is clearing or freeing it
//   clean_        all zero, for the next grant
//   retired_      could not be cleared; stays until the process ends
//
//   made      --TakeFromDriver, RestoreRegion--------> leased
//             --SupplyOnce (a refill)----------------> clean_, or to_free_ if clean_ is full
//   leased    --Return, unmapped---------------------> to_clear_
//             --Return, perhaps mapped, or VMM_FD----> to_free_
//             --Quarantine---------------------------> quarantined
//   quarant.  --ReturnProven-------------------------> to_clear_, of kind VMM_FD: to_free_
//             --ReturnUnproven-----------------------> to_free_
//   to_clear_ --ClearOnce----------------------------> busy, or to_free_ if it would not be kept
//   busy      --cleared------------------------------> clean_, to_free_ if clean_ is full by now,
//                                                      retired_ if the driver failed
//             --freed--------------------------------> gone
//   to_free_  --SupplyOnce---------------------------> busy
//   clean_    --TakeWarm-----------------------------> leased
//             --displaced by a later region----------> to_free_
//   clean_, to_clear_, to_free_  --Trim, device full-> busy
//
// Invariants
//  1. A leased region is all zero when it is handed out, except a restored one.
//  2. A region that a session returned while it lived serves only the same tenant, and only when
//     the session said that it had unmapped it. Otherwise it is freed to the driver, which never
//     reuses memory that is still mapped.
//  3. A region of kind VMM_FD is leased once: its descriptor may have been passed on. Then the
//     driver has it, which knows when the last process has unmapped it.
//  4. The regions that a tenant's sessions hold, or that are quarantined for them, are on the
//     tenant's account.
//  5. The books: warm is to_clear_ + to_free_ + busy + clean_; quarantined includes retired_.
// Owns: all regions but those with a holder.
// Borrows: the device, the health and the store, which outlive it.
// Thread safety: thread-safe. Driver calls are made without the lock: a slow one delays only the
// thread that makes it.
// Errors: RESOURCE_EXHAUSTED when the tenant's limit or that of VMM_FD regions is reached, or the
// device is full even after all warm memory was freed to the driver; UNAVAILABLE after any other
// driver error, which also fails the health.
class DeviceHeap {
 public:
  struct Options {
    Epoch epoch = 1;
    // How much to keep ready, in regions of the sizes that pools grow by, so that a grant needs no
    // driver call; and of which kind.
    Bytes warm_reserve;
    // The most that may be kept clean for later grants.
    Bytes warm_limit;
    // The most that one tenant's account may hold.
    Bytes tenant_limit = Bytes(~uint64_t{0});
    MemoryKind reserve_kind = MemoryKind::kCudaIpc;
    // The most regions of kind VMM_FD. Each holds a descriptor, and a process has a limited number
    // of them. If the driver met that limit, its error could not be told from a lost context.
    uint64_t max_vmm_regions = 4096;
    // Where the descriptors of regions of kind VMM_FD are kept beyond this process, each from
    // before its region is granted until it is freed. Null: nowhere. Outlives the heap.
    FdStore* store = nullptr;
  };

  // Called once, after the region was cleared or freed to the driver: no content of its last holder
  // is left. Called by the thread that did this work, inside ClearOnce, SupplyOnce, TakeFromDriver,
  // Trim or the destructor, and under none of the heap's locks; so it may call the heap. If the
  // region cannot be cleared, the completion is destroyed without a call.
  using OnCleared = absl::AnyInvocable<void() &&>;

  DeviceHeap(cuda::Device& device, Health& health, const Options& options);
  // Frees everything to the driver. REQUIRES: every holder has returned its regions.
  ~DeviceHeap();

  // A warm region of `at_least` to `at_most` bytes for this tenant, the smallest that its account
  // has room for; nullopt when there is none. No driver call.
  std::optional<Region> TakeWarm(Bytes at_least, Bytes at_most, Tenant tenant, MemoryKind kind)
      ABSL_LOCKS_EXCLUDED(mu_);
  // A new region from the driver. REQUIRES: `size` is a positive multiple of kRegionUnit.
  absl::StatusOr<Region> TakeFromDriver(Bytes size, Tenant tenant, MemoryKind kind)
      ABSL_LOCKS_EXCLUDED(mu_);
  // A region of an earlier life of the daemon. It is leased to this tenant, also above its limit.
  Region RestoreRegion(RegionId id, ExportedVmm memory, Tenant tenant) ABSL_LOCKS_EXCLUDED(mu_);
  // The name of a region's descriptor in the store.
  static std::string StoreName(RegionId id) { return RegionDriver::StoreName(id); }

  // A live session returns a region. `unmapped`: it says that it no longer maps it, so that the
  // region may serve its tenant again, unless it is of kind VMM_FD.
  void Return(Region region, bool unmapped) ABSL_LOCKS_EXCLUDED(mu_);
  // A dead session's region changes from leased to quarantined. The caller keeps it.
  void Quarantine(const Region& region) ABSL_LOCKS_EXCLUDED(mu_);
  // REQUIRES of both: the region is quarantined. The dead process is proven gone: the region serves
  // again once it is cleared, or is freed to the driver if it is of kind VMM_FD. Then `on_cleared`
  // is called, unless it is null.
  void ReturnProven(Region region, OnCleared on_cleared) ABSL_LOCKS_EXCLUDED(mu_);
  // The dead process has exited, but there is no proof that nothing of it still writes: the driver
  // takes the region and isolates it.
  void ReturnUnproven(Region region) ABSL_LOCKS_EXCLUDED(mu_);

  // One piece of waiting work; false when there was none. Two threads do them, because to free a
  // region to the driver can take a hundred times as long as to clear one.
  bool ClearOnce() ABSL_LOCKS_EXCLUDED(mu_);
  // Frees one region to the driver, or makes one for the reserve.
  bool SupplyOnce() ABSL_LOCKS_EXCLUDED(mu_) {
    return health_.Check().ok() && (FreeOne() || RefillOne());
  }
  // Either.
  bool MaintainOnce() ABSL_LOCKS_EXCLUDED(mu_) { return ClearOnce() || SupplyOnce(); }
  // Waits until there is such work that should not wait longer, at most `timeout`.
  void WaitForClearing(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mu_);
  void WaitForSupply(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mu_);
  // Frees all warm memory to the driver and stops refilling the reserve until the next region is
  // returned. Returns how many bytes were freed.
  Bytes Trim() ABSL_LOCKS_EXCLUDED(mu_);

  Books books() const ABSL_LOCKS_EXCLUDED(mu_);
  // Of the warm bytes, those that are not clean yet: they wait to be cleared or freed, or are busy.
  Bytes waiting() const ABSL_LOCKS_EXCLUDED(mu_);
  // The books and the driver's count, as of one moment. A driver call.
  struct Snapshot {
    Books books;
    Bytes total;
    Bytes driver_free;
    Bytes other() const { return total - driver_free - books.reserved(); }
  };
  absl::StatusOr<Snapshot> TakeSnapshot() const ABSL_LOCKS_EXCLUDED(mu_);
  cuda::Device& device() { return device_; }

  // Recounts the books and aborts when they do not balance.
  void CheckInvariants() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // A returned region on its way to the next place, and the call that is due when it is clean.
  struct Returned {
    Region region;
    OnCleared on_cleared;
  };

  bool FreeOne() ABSL_LOCKS_EXCLUDED(mu_);
  bool RefillOne() ABSL_LOCKS_EXCLUDED(mu_);
  // Frees a busy region and calls its completion.
  void FreeToDriver(Returned returned) ABSL_LOCKS_EXCLUDED(mu_);
  // Frees idle memory to the driver, and waits for the memory that other threads are just freeing.
  // False when there was none.
  bool FreeIdleMemory() ABSL_LOCKS_EXCLUDED(mu_);
  // RESOURCE_EXHAUSTED: why the device has no room for `size`, and how the user can make some.
  absl::Status DeviceFull(Bytes size) const ABSL_LOCKS_EXCLUDED(mu_);

  // Moves a region from its holder's account to `list`.
  void Enqueue(Region region, OnCleared on_cleared, std::deque<Returned>& list)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Moves the oldest region of `list` to the caller, as busy; nullopt when the list is empty.
  std::optional<Returned> TakeOldest(std::deque<Returned>& list) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Moves unplanned clean regions to to_free_, until `size` more may be kept.
  // False, and nothing moves, when that would not be enough.
  bool MakeCleanRoom(Bytes size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Moves a cleared region to clean_. False, and the caller keeps it, when that would be too much.
  bool PutClean(Region& region) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Everything in clean_, to_clear_ and to_free_, as busy.
  std::vector<Returned> TakeAllIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Bytes MissingReserve(uint64_t below_percent) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return refill_paused_ ? Bytes(0) : clean_.MissingReserve(below_percent);
  }
  bool NoneBusy() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return busy_bytes_ == Bytes(0) && freeing_bytes_ == Bytes(0);
  }
  bool HasToClear() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasToSupply() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Wakes the threads that wait for a condition which holds now. Every change of what the three
  // conditions read ends with it, under the same lock.
  void Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  cuda::Device& device_;
  Health& health_;
  const MemoryKind reserve_kind_;
  // Has a lock of its own, which is never held together with mu_.
  RegionDriver driver_;

  // Guards which region is where. No driver call is made and no completion is called under it. Of
  // the other locks only that of the health may be taken under it.
  mutable absl::Mutex mu_;
  // One for each condition, so that a grant wakes no thread that has nothing to do.
  mutable TimedCondVar has_to_clear_;
  mutable TimedCondVar has_to_supply_;
  TimedCondVar none_busy_;
  Books books_ ABSL_GUARDED_BY(mu_);
  TenantAccounts accounts_ ABSL_GUARDED_BY(mu_);
  CleanRegions clean_ ABSL_GUARDED_BY(mu_);
  // Oldest first, so that none waits for ever.
  std::deque<Returned> to_clear_ ABSL_GUARDED_BY(mu_);
  std::deque<Returned> to_free_ ABSL_GUARDED_BY(mu_);
  // On the books as quarantined: no session may have them, and only the end of the context frees
  // them.
  std::vector<Region> retired_ ABSL_GUARDED_BY(mu_);
  // The bytes of the busy regions that are on the books.
  Bytes busy_bytes_ ABSL_GUARDED_BY(mu_);
  // The bytes that are off the books, but that the driver does not have yet.
  Bytes freeing_bytes_ ABSL_GUARDED_BY(mu_);
  // The device was full when the reserve was last filled: wait until a region is returned.
  bool refill_paused_ ABSL_GUARDED_BY(mu_) = false;
  // How often a region entered or left the books. TakeSnapshot sees by it whether two readings are
  // of the same moment.
  uint64_t driver_changes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_DEVICE_HEAP_H_
