// The memory of an earlier life of the daemon, by the descriptors that the supervisor has kept.
#ifndef SERVER_LEASES_KEPT_MEMORY_H_
#define SERVER_LEASES_KEPT_MEMORY_H_

#include <map>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/cuda/device.h"
#include "common/unique_fd.h"
#include "server/identity/ids.h"
#include "server/journal/journal_state.h"
#include "server/keeper/fd_store.h"
#include "server/memory/region.h"

namespace tenure::server {

// The regions that a journal names, imported before anything of the earlier life is given up: a
// start in which the driver fails must leave everything to the next start.
//
// A region is worthless only with proof: its descriptor is refused as no memory, twice, while the
// driver makes, exports and imports memory of our own before and after. An answer of the driver
// alone proves nothing, because a driver that has failed gives the same one.
//
// Invariant: neither the supervisor's descriptors nor the journal are touched.
// Owns: the descriptors and the imported memory, until they are taken.
// Borrows: the device.
// Thread safety: thread-compatible.
class KeptMemory {
 public:
  // Imports all regions of the sessions and of the published segments.
  // Errors: INTERNAL: the driver failed, or a region could not be imported without being proven
  //     worthless.
  static absl::StatusOr<KeptMemory> Import(cuda::Device& device, const JournalState& state,
                                           FdStore& store);
  ~KeptMemory();
  KeptMemory(KeptMemory&&) = default;

  // The region, once; nullopt when it is lost, because its descriptor was not kept or is proven
  // worthless.
  std::optional<ExportedVmm> Take(RegionId region);
  // The names of the descriptors that the supervisor keeps for no region of the journal, and of
  // those that are worthless.
  const std::set<std::string>& unused() const { return unused_; }

 private:
  explicit KeptMemory(cuda::Device& device) : device_(&device) {}

  absl::Status ImportOne(RegionId region, Bytes size);
  // OK with proof that the descriptor names no memory, or with the memory in *memory.
  absl::Status ProveOrImport(int fd, Bytes size, std::optional<cuda::VmmMemory>* memory);

  cuda::Device* device_;
  std::map<std::string, UniqueFd> fds_;  // that no region has claimed yet
  std::map<RegionId, ExportedVmm> regions_;
  std::set<std::string> unused_;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_KEPT_MEMORY_H_
