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

namespace tenure {

// A region as this process has it: opened by a handle, or mapped by a descriptor.
using Mapping = std::variant<cuda::DevicePointer, cuda::VmmMemory>;

// Where it begins.
cuda::DevicePointer BaseOf(const Mapping& mapping);

// The regions that this process has mapped. Maps each once, counts the blocks that use it, and
// unmaps it again.
//
// A region goes back to the daemon in three steps: Retire unmaps it and bars it, the daemon is
// told, Unbar. While it is barred, a token for it waits: without that, a block granted meanwhile
// could map the region again just before the daemon takes it away, and the mapping would outlive
// this session's claim.
//
// Invariants: 1. a region that a block uses stays mapped; 2. a region is mapped at most once; 3. a
// barred region is not mapped.
// Borrows: the device.
// Owns: the mappings; the destructor closes them.
// Thread safety: thread-safe. The lock is never held across a driver call, so regions map side by
// side.
class RegionCache {
 public:
  explicit RegionCache(cuda::Device& device) : device_(device) {}
  ~RegionCache();
  RegionCache(const RegionCache&) = delete;
  RegionCache& operator=(const RegionCache&) = delete;

  // The region's base in this process, counted for one more block; mapped by `map` if it is not
  // mapped yet. `map` may take its time.
  // Errors: those of `map`; DEADLINE_EXCEEDED: it stayed barred until `deadline`.
  absl::StatusOr<cuda::DevicePointer> Use(uint64_t region_id,
                                          absl::FunctionRef<absl::StatusOr<Mapping>()> map,
                                          Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  enum class WhenEmpty { kKeep, kUnmap };
  // One block fewer uses the region. With kUnmap its last block unmaps it. True when the region is
  // unmapped now.
  bool Drop(uint64_t region_id, WhenEmpty when_empty) ABSL_LOCKS_EXCLUDED(mutex_);

  // The mapping of a region that one block uses, which is the caller's from now on; the region is
  // none of the cache's any more.
  Mapping Take(uint64_t region_id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Those of the regions that no block uses, unmapped and barred. A region that is in use is left
  // out: a token for it was on its way while the daemon called it idle.
  std::vector<uint64_t> Retire(absl::Span<const uint64_t> region_ids) ABSL_LOCKS_EXCLUDED(mutex_);
  // The daemon has answered about these regions: tokens for them are welcome again.
  void Unbar(absl::Span<const uint64_t> region_ids) ABSL_LOCKS_EXCLUDED(mutex_);

  // The session is over: unmaps what no block uses, and from now on every region with its last
  // block.
  void Orphan() ABSL_LOCKS_EXCLUDED(mutex_);

  // How many regions are mapped.
  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  enum class State { kMapping, kMapped, kUnmapping, kBarred };
  struct Entry {
    State state = State::kMapping;
    uint32_t blocks = 0;
    Mapping mapping;
  };

  // Waits until the region is neither being mapped, being unmapped nor barred; false when the
  // deadline passed first.
  bool AwaitSettled(uint64_t region_id, Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Close(const Mapping& mapping);
  // Unmaps a mapped region, giving the lock away meanwhile; leaves it barred.
  bool Unmap(uint64_t region_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  cuda::Device& device_;
  // Guards who is mapped and by whom it is used. No driver call is made under it.
  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  absl::flat_hash_map<uint64_t, Entry> regions_ ABSL_GUARDED_BY(mutex_);
  bool orphaned_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_REGION_CACHE_H_
