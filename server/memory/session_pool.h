// The memory of one session: blocks, and the regions they lie in.
#ifndef SERVER_MEMORY_SESSION_POOL_H_
#define SERVER_MEMORY_SESSION_POOL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/bytes.h"
#include "common/heap/block_heap.h"
#include "server/memory/device_heap.h"
#include "server/memory/region.h"

namespace tenure::server {

class SessionPool;

enum class Placement { kAutomatic, kPool, kDirect };

// What is asked of a pool. `size` is at least 1 and at most the device; `alignment` is a power of
// two from 256 B to 2 MiB: the service has checked both.
struct BlockRequest {
  Bytes size;
  Bytes alignment = Bytes(256);
  Placement placement = Placement::kAutomatic;
  MemoryKind kind = MemoryKind::kCudaIpc;
};

// A byte range inside a region. Made only by a SessionPool; gives itself back when it goes.
//
// Thread safety: thread-compatible.
class Block {
 public:
  Block(Block&& other) noexcept = default;  // leaves one without a pool, which gives nothing back
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

struct SessionPoolStats {
  heap::BlockHeapStats blocks;
  uint64_t pool_regions = 0;
  uint64_t closed_regions = 0;
  Bytes closed_bytes;
  Bytes leased() const { return blocks.region_bytes + closed_bytes; }
  uint64_t regions() const { return pool_regions + closed_regions; }
};

// Small blocks come from size classes over the session's regions of the same kind, larger ones are
// regions of their own.
//
// Invariants
//  1. Every region in it serves this session only.
//  2. It lives as long as its last block. When it goes, its regions go to the heir: by default to
//     the driver, since the client may still map them.
// Borrows: the device heap, which outlives it.
// Thread safety: thread-safe. No driver call is made under the lock.
class SessionPool : public std::enable_shared_from_this<SessionPool> {
 public:
  // Takes the regions of a pool that is over.
  using Heir = std::function<void(std::vector<Region>)>;

  static std::shared_ptr<SessionPool> Create(DeviceHeap& heap, Tenant tenant, Bytes max_pool_block);
  ~SessionPool();

  // A block without a driver call; nullopt when only the driver can help. INVALID_ARGUMENT: too
  // large for a pool.
  absl::StatusOr<std::optional<Block>> AllocateWarm(const BlockRequest& request);
  // A block, if need be from the driver.
  // Errors: as DeviceHeap.
  absl::StatusOr<Block> Allocate(const BlockRequest& request);

  // Empty regions beyond the one that is kept for the next block.
  std::vector<RegionId> IdleRegions() const;
  // The client has unmapped these; the empty ones among them leave the pool. Returns how many.
  uint32_t Release(absl::Span<const RegionId> regions);

  // A block of an earlier life of the daemon.
  struct RestoredBlock {
    Bytes offset;
    Bytes size;
    Bytes requested;
    bool direct = false;
  };
  // Takes over a region with these blocks in it, at least one. It gets no new ones.
  std::vector<Block> Restore(Region region, absl::Span<const RestoredBlock> blocks);

  // Takes a direct block's region out of its pool: the block is over, and the region is the
  // caller's.
  static Region TakeRegion(Block block);

  // The session is over: from now on regions stay here until the last block is gone, then go to
  // `heir`.
  void End(Heir heir);

  SessionPoolStats stats() const;

 private:
  friend class Block;

  SessionPool(DeviceHeap& heap, Tenant tenant, Bytes max_pool_block)
      : heap_(heap),
        tenant_(tenant),
        max_pool_block_(max_pool_block),
        blocks_{heap::BlockHeap(max_pool_block), heap::BlockHeap(max_pool_block)} {}

  bool GoesToPool(const BlockRequest& request) const;
  std::optional<Block> TakeFromRegions(const BlockRequest& request);
  Bytes NextRegionSize(MemoryKind kind) const;
  void AddRegion(Region region);
  Block MakeDirect(Region region, const BlockRequest& request);
  void GiveBack(const Block& block);

  DeviceHeap& heap_;
  const Tenant tenant_;
  const Bytes max_pool_block_;

  // Guards which block lies where.
  mutable absl::Mutex mu_;
  std::array<heap::BlockHeap, kMemoryKinds.size()> blocks_ ABSL_GUARDED_BY(mu_);  // by kind
  uint32_t next_key_ ABSL_GUARDED_BY(mu_) = 0;
  // By region key. Nodes do not move: a live block points to its region.
  std::unordered_map<uint32_t, Region> pool_regions_ ABSL_GUARDED_BY(mu_);
  // Regions that get no new blocks and go with their last: of direct blocks, and restored ones.
  struct ClosedRegion {
    Region region;
    uint64_t blocks = 1;
  };
  std::unordered_map<uint32_t, ClosedRegion> closed_regions_ ABSL_GUARDED_BY(mu_);
  Bytes closed_bytes_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  Heir heir_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_SESSION_POOL_H_
