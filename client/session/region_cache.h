// The regions that this process has mapped.
#ifndef CLIENT_SESSION_REGION_CACHE_H_
#define CLIENT_SESSION_REGION_CACHE_H_

#include <cstdint>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "client/session/deadline.h"
#include "common/cuda/device.h"
#include "common/cuda/vmm.h"
#include "common/timed_cond_var.h"

namespace tenure {

// How a region is mapped: opened by a CUDA_IPC handle, or mapped by a VMM_FD descriptor.
using Mapping = std::variant<cuda::DevicePointer, cuda::VmmMemory>;

// The address at which the mapping begins.
cuda::DevicePointer BaseOf(const Mapping& mapping);

// The regions that this process has mapped. Maps each region once, counts the blocks in it, and
// unmaps it again.
//
// A region returns to the daemon in three steps: BeginReturn unmaps it, the caller tells the
// daemon, EndReturn. Between them Acquire waits. Otherwise a block that was granted meanwhile could
// map the region just before the daemon takes the region away, and this process would keep a
// mapping of memory that it has not leased.
//
// Invariants: 1. A region in which a block lies stays mapped. 2. A region is mapped at most once.
// 3. A region between BeginReturn and EndReturn is not mapped.
// Borrows: the device.
// Owns: the mappings. The destructor closes them.
// Thread safety: thread-safe. The lock is never held during a driver call, so several regions can
// be mapped at the same time.
class RegionCache {
 public:
  explicit RegionCache(cuda::Device& device) : device_(device) {}
  // REQUIRES: every Acquire was followed by a Release or an Extract.
  ~RegionCache();
  RegionCache(const RegionCache&) = delete;
  RegionCache& operator=(const RegionCache&) = delete;

  // Counts one more block in the region and returns the region's address. If the region is not
  // mapped yet, calls `map` without a lock held; other callers for this region wait for it.
  // Errors: those of `map`. DEADLINE_EXCEEDED: the region was mapped, unmapped or returned by
  // another thread until `deadline`.
  absl::StatusOr<cuda::DevicePointer> Acquire(uint64_t region_id,
                                              absl::FunctionRef<absl::StatusOr<Mapping>()> map,
                                              Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  enum class WhenEmpty { kKeep, kUnmap };
  // Counts one block less. With kUnmap the last block unmaps the region. True when the region is
  // not mapped any more.
  bool Release(uint64_t region_id, WhenEmpty when_empty) ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes a mapped region from the cache, without unmapping it. The mapping is the caller's.
  // REQUIRES: exactly one block lies in the region.
  Mapping Extract(uint64_t region_id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Unmaps those of the regions in which no block lies, and returns them. Skips a region in use: a
  // token for it was on its way while the daemon called it idle.
  std::vector<uint64_t> BeginReturn(absl::Span<const uint64_t> region_ids)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The daemon has answered: these regions may be mapped again.
  void EndReturn(absl::Span<const uint64_t> region_ids) ABSL_LOCKS_EXCLUDED(mutex_);

  // Unmaps the regions in which no block lies. From now on the last block of a region unmaps it,
  // because there is no daemon that would ask for the region.
  void EndSession() ABSL_LOCKS_EXCLUDED(mutex_);

  // How many regions are mapped.
  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // A region that is in the table in another state than kMapped belongs to one thread, which is
  // mapping, unmapping or returning it. All others wait on changed_ until that thread is done.
  enum class State { kMapping, kMapped, kUnmapping, kReturning };
  struct Entry {
    State state = State::kMapping;
    uint32_t blocks = 0;  // 0 unless kMapped
    Mapping mapping;
  };

  // Waits until the region is mapped or not in the table. False when the deadline passed first.
  bool AwaitFinished(uint64_t region_id, Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Reserves the region for this thread, which has to close the mapping without the lock.
  Mapping StartUnmap(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Close(const Mapping& mapping) ABSL_LOCKS_EXCLUDED(mutex_);

  cuda::Device& device_;
  // Guards the table. No driver call is made under it: NoDriverCallsLock.
  mutable absl::Mutex mutex_;
  TimedCondVar changed_;
  absl::flat_hash_map<uint64_t, Entry> regions_ ABSL_GUARDED_BY(mutex_);
  bool session_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_REGION_CACHE_H_
