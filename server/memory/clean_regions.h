// The clean regions that wait for the next grant, and which of them are kept.
#ifndef SERVER_MEMORY_CLEAN_REGIONS_H_
#define SERVER_MEMORY_CLEAN_REGIONS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/bytes.h"
#include "common/memory_kind.h"
#include "server/identity/peer.h"
#include "server/memory/region.h"
#include "server/memory/shelf.h"

namespace tenure::server {

// Regions that are all zero and that a grant can have without a driver call. A region lies in one
// of two places:
//
//  * the reserve, when it may serve any tenant: it is new from the driver, or every session that
//    had it was proven gone;
//  * a tenant's cache, when a session of that tenant returned it while it lived
//    (Region::shared_in_tenant): that session may still map it, so no other tenant may have it.
//
// The plan says how many regions of each size the reserve should hold, so that a first grant needs
// no driver call. Up to that number they are never displaced; everything else is displaced by
// regions that come later, because the region that was returned last is most likely to be wanted
// next.
//
// Invariants
//  1. bytes() is the sum over all regions here, and at most the limit.
//  2. A region in a tenant's cache belonged to that tenant last.
// Owns: its regions. It is empty when it is destroyed.
// Thread safety: thread-compatible.
class CleanRegions {
 public:
  // `limit`: the most bytes that may be here. `reserve`: how much the reserve should hold, in
  // regions of `reserve_kind`.
  CleanRegions(Bytes limit, Bytes reserve, MemoryKind reserve_kind);

  // The smallest region of `at_least` to `at_most` bytes that this tenant may have: from its own
  // cache if there is one, otherwise from the reserve. nullopt when there is none.
  std::optional<Region> Take(Bytes at_least, Bytes at_most, Tenant tenant, MemoryKind kind);

  // Moves unplanned regions to `displaced` until `size` more bytes fit below the limit. False, and
  // nothing is moved, when even that would not be enough.
  bool MakeRoom(Bytes size, std::vector<Region>& displaced);
  // REQUIRES: MakeRoom(region.size(), …) was true and nothing was added since.
  void Put(Region region);

  // A size of which the reserve holds less than `below_percent` of the planned number; 0 when there
  // is none.
  Bytes MissingReserve(uint64_t below_percent) const;

  // All regions. Nothing is left here afterwards.
  std::vector<Region> TakeAll();

  Bytes bytes() const { return bytes_; }
  // Aborts unless the invariants hold, recounting everything.
  void CheckInvariants() const;

 private:
  using Shelves = std::array<Shelf, kMemoryKinds.size()>;  // by kind

  // The planned regions that are in the reserve now. They are not displaced.
  Bytes PlannedBytes() const;
  // A region that may be displaced: of a tenant's cache if there is one, otherwise of the reserve.
  std::optional<Region> TakeUnplanned();

  const Bytes limit_;
  const MemoryKind reserve_kind_;
  const RegionPlan plan_;
  Shelves reserve_;
  absl::flat_hash_map<Tenant, Shelves> caches_;
  Bytes bytes_;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_CLEAN_REGIONS_H_
