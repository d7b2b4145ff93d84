// The memory of one session: blocks, and the regions in which they lie.
#ifndef SERVER_MEMORY_SESSION_POOL_H_
#define SERVER_MEMORY_SESSION_POOL_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/bytes.h"
#include "common/heap/block_heap.h"
#include "common/memory_kind.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"
#include "server/memory/device_heap.h"
#include "server/memory/region.h"

namespace tenure::server {

class SessionPool;

enum class Placement { kAutomatic, kPool, kDirect };

// A request for one block. REQUIRES: `size` is at least 1 and at most the device; `alignment` is a
// power of two from 256 B to 2 MiB. The service has checked both.
struct BlockRequest {
  Bytes size;
  Bytes alignment = Bytes(256);
  Placement placement = Placement::kAutomatic;
  MemoryKind kind = MemoryKind::kCudaIpc;
};

// A byte range inside a region. Made only by a SessionPool, and freed to it on destruction.
//
// Owns: a share of its pool, so that its region outlives it.
// Thread safety: thread-compatible.
class Block {
 public:
  Block(Block&& other) noexcept = default;  // leaves a block without a pool, which frees nothing
  Block& operator=(Block&&) = delete;
  ~Block();

  // Valid while the block lives.
  const Region& region() const { return *region_; }
  Bytes offset() const { return offset_; }
  Bytes size() const { return size_; }
  Bytes requested() const { return requested_; }
  // Whether it has a region of its own.
  bool direct() const { return direct_; }

  // The client says that it no longer maps the block's region.
  void set_unmapped() { unmapped_ = true; }

 private:
  friend class SessionPool;
  Block(std::shared_ptr<SessionPool> pool, const Region* region, uint32_t region_key, Bytes offset,
        Bytes size, Bytes requested, bool direct)
      : pool_(std::move(pool)),
        region_(region),
        region_key_(region_key),
        offset_(offset),
        size_(size),
        requested_(requested),
        direct_(direct) {}

  std::shared_ptr<SessionPool> pool_;
  const Region* region_;
  uint32_t region_key_;
  Bytes offset_;
  Bytes size_;
  Bytes requested_;
  bool direct_;
  bool unmapped_ = false;
};

// The holdings of a pool. Bytes of blocks are those of whole blocks, not of the requests.
struct SessionPoolStats {
  heap::BlockHeapStats blocks;  // of the pool regions
  uint64_t pool_regions = 0;
  uint64_t closed_regions = 0;
  Bytes closed_bytes;
  Bytes leased() const { return blocks.region_bytes + closed_bytes; }
  uint64_t regions() const { return pool_regions + closed_regions; }
};

// The blocks of one session. A small block comes from size classes over the session's regions of
// the same kind; a larger one is a region of its own.
//
// Hides: two sorts of regions.
//
//  * A pool region gets new blocks as long as it is here. When its last block is freed it stays, so
//    that the next small block needs no region; it leaves only by Release, or with the pool.
//  * A closed region gets no new blocks: it has one direct block, or the blocks that were restored
//    into it. When the last of them is freed, it is returned to the device heap.
//
// After End no region leaves any more. All of them wait for the last block, because a dead
// session's regions must stay together until there is proof that it is gone.
//
// Invariants
//  1. Every region in it serves this session only.
//  2. It lives as long as its last block, which owns a share of it.
//  3. When it is destroyed, each of its regions has left it exactly once.
// Owns: its regions.
// Borrows: the device heap, which outlives it.
// Thread safety: thread-safe. No driver call is made under the lock, and none of the device heap's
// locks is taken under it.
class SessionPool : public std::enable_shared_from_this<SessionPool> {
 public:
  // Gets all regions of the pool once the last block is freed, perhaps none. Called once, on the
  // thread that frees this block, without the pool's lock.
  using OnEmptied = absl::AnyInvocable<void(std::vector<Region>) &&>;

  static std::shared_ptr<SessionPool> Create(DeviceHeap& heap, Tenant tenant, Bytes max_pool_block);
  ~SessionPool();

  // A block without a driver call; nullopt when only the driver can provide one. INVALID_ARGUMENT:
  // the placement is kPool, and the block is too large for a pool.
  absl::StatusOr<std::optional<Block>> AllocateWarm(const BlockRequest& request)
      ABSL_LOCKS_EXCLUDED(mu_);
  // A block, if need be from the driver.
  // Errors: as AllocateWarm and DeviceHeap.
  absl::StatusOr<Block> Allocate(const BlockRequest& request) ABSL_LOCKS_EXCLUDED(mu_);

  // The pool regions without blocks, except one of each kind, which is kept for the next block.
  std::vector<RegionId> IdleRegions() const ABSL_LOCKS_EXCLUDED(mu_);
  // The client says that it has unmapped these. Those that are pool regions without blocks are
  // returned to the device heap. Returns how many.
  uint32_t Release(absl::Span<const RegionId> regions) ABSL_LOCKS_EXCLUDED(mu_);

  // A block of an earlier life of the daemon.
  struct RestoredBlock {
    Bytes offset;
    Bytes size;
    Bytes requested;
    bool direct = false;
  };
  // Adds a region with these blocks in it, at least one. It gets no new ones.
  std::vector<Block> Restore(Region region, absl::Span<const RestoredBlock> blocks)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Takes a direct block's region out of its pool. The block is gone, and the caller holds the
  // region.
  static Region TakeRegion(Block block);

  // The session has ended: regions stay here until the last block is freed, then `on_emptied` gets
  // them. Without a call of End they are returned to the device heap as perhaps still mapped.
  void End(OnEmptied on_emptied) ABSL_LOCKS_EXCLUDED(mu_);

  SessionPoolStats stats() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class Block;

  SessionPool(DeviceHeap& heap, Tenant tenant, Bytes max_pool_block)
      : heap_(heap),
        tenant_(tenant),
        max_pool_block_(max_pool_block),
        blocks_{heap::BlockHeap(max_pool_block), heap::BlockHeap(max_pool_block)} {}

  bool GoesToPool(const BlockRequest& request) const ABSL_LOCKS_EXCLUDED(mu_);
  // A block of the pool regions that are here; nullopt when none has room.
  std::optional<Block> TakeFromPoolRegions(const BlockRequest& request) ABSL_LOCKS_EXCLUDED(mu_);
  Bytes NextRegionSize(MemoryKind kind) const ABSL_LOCKS_EXCLUDED(mu_);
  void AddPoolRegion(Region region) ABSL_LOCKS_EXCLUDED(mu_);
  // A block that is all of `region`.
  Block MakeDirect(Region region, const BlockRequest& request) ABSL_LOCKS_EXCLUDED(mu_);
  // Called by the block's destructor.
  void Free(const Block& block) ABSL_LOCKS_EXCLUDED(mu_);

  DeviceHeap& heap_;
  const Tenant tenant_;
  const Bytes max_pool_block_;

  // Guards which block lies where. No driver call is made and no other lock is taken under it.
  mutable absl::Mutex mu_;
  std::array<heap::BlockHeap, kMemoryKinds.size()> blocks_ ABSL_GUARDED_BY(mu_);  // by kind
  uint32_t next_key_ ABSL_GUARDED_BY(mu_) = 0;
  // Both by region key. The nodes of these maps do not move: a live block points to its region.
  std::unordered_map<uint32_t, Region> pool_regions_ ABSL_GUARDED_BY(mu_);
  struct ClosedRegion {
    Region region;
    uint64_t blocks = 1;  // live ones
  };
  std::unordered_map<uint32_t, ClosedRegion> closed_regions_ ABSL_GUARDED_BY(mu_);
  Bytes closed_bytes_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  OnEmptied on_emptied_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_SESSION_POOL_H_
