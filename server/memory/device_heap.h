// Every byte of the device that is ours, region by region.
#ifndef SERVER_MEMORY_DEVICE_HEAP_H_
#define SERVER_MEMORY_DEVICE_HEAP_H_

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/keeper/fd_store.h"
#include "server/memory/health.h"
#include "server/memory/region.h"

namespace tenure::server {

// Where the reserved bytes are. reserved() is their sum, always.
struct Books {
  Bytes leased;
  Bytes warm;
  Bytes quarantined;
  Bytes reserved() const { return leased + warm + quarantined; }
};

// The regions of one device: takes them from the driver, exports and clears them, keeps some warm,
// gives them back.
//
// Invariants
//  1. Every region is in exactly one place: with a holder (leased or quarantined), warm (clean,
//     waiting to be cleared, or waiting for the driver to take it back), retired, or being made.
//  2. A region handed out is all zero, and cleared by us: the driver promises nothing.
//  3. A region that a session gave back while it lived goes only to the same tenant, and only when
//     the session said that it had unmapped it; otherwise it goes back to the driver, which never
//     reuses memory that is still mapped.
//  4. The clean warm memory never exceeds the warm limit.
//  5. What a tenant's sessions hold and what waits in quarantine for them is on that tenant's
//     account, which never exceeds the tenant limit.
//  6. A region that could not be cleared is retired: neither granted nor freed, it stays on the
//  books
//     as quarantined until the process ends.
// Borrows: the device and the health, which outlive it.
// Thread safety: thread-safe. Driver calls are made without the lock: a slow one holds up only its
// own caller.
// Errors: RESOURCE_EXHAUSTED when the tenant's limit or that of VMM_FD regions is reached, or the
// device is full even after all warm memory went back to the driver; UNAVAILABLE after any other
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
    // The most regions of kind VMM_FD: each holds a descriptor, which the process has only so many
    // of, and to run out of them inside the driver could not be told from a broken driver.
    uint64_t max_vmm_regions = 4096;
    // Where the descriptors of regions of kind VMM_FD are kept beyond this process, each from
    // before its region is granted until it is over. Null: nowhere. Outlives the heap.
    FdStore* store = nullptr;
  };

  DeviceHeap(cuda::Device& device, Health& health, const Options& options);
  // All regions have come back; gives them to the driver.
  ~DeviceHeap();

  // A warm region of `at_least` to `at_most` bytes for this tenant, the smallest there is that its
  // account has room for. No driver call.
  std::optional<Region> TakeWarm(Bytes at_least, Bytes at_most, Tenant tenant, MemoryKind kind);
  // A new region of `size` bytes, a multiple of 2 MiB, from the driver.
  absl::StatusOr<Region> TakeFromDriver(Bytes size, Tenant tenant, MemoryKind kind);
  // A region of an earlier life of the daemon, by the descriptor that was kept; leased to this
  // tenant, also beyond its limit.
  absl::StatusOr<Region> RestoreRegion(RegionId id, Bytes size, UniqueFd fd, Tenant tenant);

  // The name of a region's descriptor in the store.
  static std::string StoreName(RegionId id);

  // A live session is done with the region. `unmapped`: it says that it no longer maps it.
  void Return(Region region, bool unmapped);

  // A dead session's region changes from leased to quarantined. The caller keeps it.
  void Quarantine(const Region& region);
  // The dead session is proven silent: the region is cleared and serves again, or goes to the
  // driver if it is of kind VMM_FD; then the lease is told.
  void ReturnProven(Region region, std::function<void()> on_cleared);
  // The dead session has exited, but its silence cannot be proven here: the driver takes the region
  // and isolates it.
  void ReturnUnproven(Region region);

  // Two kinds of waiting work, so that two threads may do them: to give a region to the driver can
  // take a hundred times as long as to clear one. Each does one piece; false when there was nothing
  // to do.
  bool ClearOnce();
  // Gives a region to the driver, or makes one for the reserve.
  bool SupplyOnce();
  // Either.
  bool MaintainOnce() { return ClearOnce() || SupplyOnce(); }
  // Waits until there is such work that should not wait longer, at most `timeout`.
  void WaitForClearing(absl::Duration timeout);
  void WaitForSupply(absl::Duration timeout);
  // Gives all warm memory to the driver and stops refilling the reserve until the next Return.
  // Returns how much.
  Bytes Trim();

  Books books() const;
  // Of the warm bytes, those that wait to be cleared or to go to the driver.
  Bytes waiting() const;
  // The books and the driver's count, as of one moment. A driver call.
  struct Snapshot {
    Books books;
    Bytes total;
    Bytes driver_free;
    Bytes other() const { return total - driver_free - books.reserved(); }
  };
  absl::StatusOr<Snapshot> TakeSnapshot();
  cuda::Device& device() { return device_; }

  // Restates the books from scratch and aborts when they do not balance.
  void CheckInvariants() const;

 private:
  // A region that is to be cleared, or freed to the driver, and what is to be called then, if
  // anything is.
  struct Waiting {
    Region region;
    std::function<void()> on_cleared;
  };

  // Clean regions by size, the one that came last on top: looked up at every grant, while most
  // sizes are there many times.
  class Shelf {
   public:
    void Put(Region region);
    // The smallest region of `at_least` to `at_most` bytes.
    std::optional<Region> Take(Bytes at_least, Bytes at_most);
    // The largest region of a size that is there more often than `planned` says; nullopt when there
    // is none.
    std::optional<Region> TakeLargestBeyond(const std::map<Bytes, uint64_t>& planned);
    size_t Count(Bytes size) const;
    std::vector<Region> TakeAll();
    Bytes Sum() const;

   private:
    std::map<Bytes, std::vector<Region>> by_size_;  // no empty stacks
  };
  using Shelves = std::array<Shelf, kMemoryKinds.size()>;  // by kind

  // The pieces of supply; each is false when there was nothing to do.
  bool FreeOne();
  bool RefillOne();

  // Takes `size` bytes on the tenant's account; false when that has no room.
  bool Charge(Tenant tenant, Bytes size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Refund(Tenant tenant, Bytes size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Bytes HeldBy(Tenant tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status OverLimit(Tenant tenant, Bytes size) const ABSL_LOCKS_EXCLUDED(mu_);
  // A region comes back from its holder, to be cleared or to be given to the driver.
  void Enqueue(Region region, std::function<void()> on_cleared, std::deque<Waiting>& queue)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Puts a cleared region where it may serve next; false when that would be too much to keep.
  bool Keep(Region& region) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Condemns clean regions that nobody planned to keep, until `size` more may be kept: what comes
  // last is wanted next. False, and nothing is condemned: there are not enough.
  bool MakeShelfRoom(Bytes size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::optional<Region> TakeUnplanned() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A size of which the reserve holds less than this share of what is planned; zero when there is
  // none.
  Bytes MissingReserve(uint64_t below_percent) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasToClear() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasToSupply() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<Waiting> TakeAllWarm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Gives idle memory to the driver, and waits for what other threads are just giving back. False
  // when there was none.
  bool MakeRoom();
  // Why there is no room, and what would make some.
  absl::Status Full(Bytes size);
  absl::StatusOr<Region> Make(Bytes size, MemoryKind kind);
  // Counts one more region of kind VMM_FD, or one fewer.
  absl::Status CountVmmRegion();
  void UncountVmmRegion();
  RegionId NewId() ABSL_LOCKS_EXCLUDED(mu_);
  // The driver's and the supervisor's part of it. Leaves nothing behind when it fails. An error of
  // the driver's other than a full device fails the health.
  absl::StatusOr<Region::Memory> ObtainIpc(Bytes size);
  absl::StatusOr<Region::Memory> ObtainVmm(Bytes size, RegionId id);
  absl::Status FreeMemory(const Region& region);
  // Fails the health unless `status` is about room.
  absl::Status FailHealthUnlessFull(absl::Status status);
  absl::Status Clear(const Region& region);
  void FreeToDriver(Waiting waiting);

  cuda::Device& device_;
  Health& health_;
  const Epoch epoch_;
  const Bytes warm_limit_;
  const Bytes tenant_limit_;
  const MemoryKind reserve_kind_;
  const uint64_t max_vmm_regions_;
  FdStore* const store_;
  // How many regions of each size the reserve should hold.
  const std::map<Bytes, uint64_t> plan_;

  // Guards who has which region. No driver call is made under it.
  mutable absl::Mutex mu_;
  uint64_t next_region_ ABSL_GUARDED_BY(mu_) = 1;
  Books books_ ABSL_GUARDED_BY(mu_);
  // Regions of kind VMM_FD that there are or are being made.
  uint64_t vmm_regions_ ABSL_GUARDED_BY(mu_) = 0;
  // Counts the regions that entered or left the books, to see whether two readings belong together.
  uint64_t driver_changes_ ABSL_GUARDED_BY(mu_) = 0;
  // Clean, for anybody.
  Shelves reserve_ ABSL_GUARDED_BY(mu_);
  // Clean, for one tenant.
  absl::flat_hash_map<Tenant, Shelves> cached_ ABSL_GUARDED_BY(mu_);
  Bytes clean_bytes_ ABSL_GUARDED_BY(mu_);
  // To be cleared, oldest first.
  std::deque<Waiting> dirty_ ABSL_GUARDED_BY(mu_);
  // To be given to the driver.
  std::deque<Waiting> condemned_ ABSL_GUARDED_BY(mu_);
  // Could not be cleared.
  std::vector<Region> retired_ ABSL_GUARDED_BY(mu_);
  // By tenant, leased and quarantined; no empty accounts.
  absl::flat_hash_map<Tenant, Bytes> accounts_ ABSL_GUARDED_BY(mu_);
  // Warm bytes in a thread's hands: being cleared or freed.
  Bytes in_hand_ ABSL_GUARDED_BY(mu_);
  // The device was full when the reserve was last filled: wait until something changes.
  bool refill_paused_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_DEVICE_HEAP_H_
