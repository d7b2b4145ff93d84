// The driver's half of the device heap: makes, exports, clears and frees regions.
#ifndef SERVER_MEMORY_REGION_DRIVER_H_
#define SERVER_MEMORY_REGION_DRIVER_H_

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/memory_kind.h"
#include "common/unique_fd.h"
#include "server/identity/ids.h"
#include "server/keeper/fd_store.h"
#include "server/memory/health.h"
#include "server/memory/region.h"

namespace tenure::server {

// Every driver call about a region, except the driver's count of free memory. Knows nothing of
// holders, tenants and books: those are the DeviceHeap's.
//
// Invariants
//  1. A region that Make() returns is all zero. The driver promises nothing about new memory.
//  2. A failed call leaves nothing behind: no memory, no descriptor, no count.
//  3. There are never more than max_vmm_regions regions of kind VMM_FD, those being made included.
//  4. The descriptor of a VMM_FD region is in the store before the region is handed out, and until
//     it is freed.
// Borrows: the device, the health and the store, which outlive it.
// Thread safety: thread-safe. Driver calls are made without the lock.
// Errors: RESOURCE_EXHAUSTED when the device is full or invariant 3 is reached. Any other error of
// the driver fails the health: the context is lost.
class RegionDriver {
 public:
  struct Options {
    Epoch epoch = 1;
    uint64_t max_vmm_regions = 0;
    FdStore* store = nullptr;  // null: descriptors are kept by this process only
  };

  RegionDriver(cuda::Device& device, Health& health, const Options& options)
      : device_(device), health_(health), options_(options) {}

  // The name of a region's descriptor in the store.
  static std::string StoreName(RegionId id);

  // A new region. REQUIRES: `size` is a positive multiple of kRegionUnit.
  // Errors: as the class; also any error that the health has already, and that of the store.
  absl::StatusOr<Region> Make(Bytes size, MemoryKind kind) ABSL_LOCKS_EXCLUDED(mu_);
  // A region of an earlier life of the daemon, with the content that it had then. It is counted
  // also beyond max_vmm_regions, which may have been larger in that life.
  Region Restore(RegionId id, ExportedVmm memory) ABSL_LOCKS_EXCLUDED(mu_);
  // Sets the region to zero.
  absl::Status Clear(const Region& region) const;
  // Gives the region to the driver. It is gone also when this fails: the process then ends, and its
  // context with it.
  void Free(Region region) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  RegionId NewId() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CountVmmRegion() ABSL_LOCKS_EXCLUDED(mu_);
  void UncountVmmRegion() ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<Region::Memory> MakeIpc(Bytes size);
  absl::StatusOr<Region::Memory> MakeVmm(Bytes size, RegionId id) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status FreeMemory(const Region& region) ABSL_LOCKS_EXCLUDED(mu_);
  // Returns `status`, and fails the health with it unless it is OK or says that the device is full.
  absl::Status FailHealthUnlessFull(absl::Status status) const;

  cuda::Device& device_;
  Health& health_;
  const Options options_;

  // Guards the two counters. No driver call is made under it, and no other lock is taken.
  absl::Mutex mu_;
  uint64_t next_region_ ABSL_GUARDED_BY(mu_) = 1;
  // Regions of kind VMM_FD that exist or are being made.
  uint64_t vmm_regions_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_REGION_DRIVER_H_
