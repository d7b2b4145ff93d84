// The proof that a process can no longer touch its regions.
#ifndef SERVER_FENCE_H_
#define SERVER_FENCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "common/cuda/process_list.h"
#include "server/device_heap.h"
#include "server/ids.h"
#include "server/peer.h"
#include "server/region.h"

namespace tenure::server {

// A session whose process is on its way out, or gone.
struct DeadSession {
  SessionId id = 0;
  std::shared_ptr<const Peer> peer;
  std::string name;
};

struct QuarantineInfo {
  DeadSession session;
  Bytes bytes;
  uint64_t regions = 0;
  absl::Duration age;
  // What is still missing.
  std::string reason;
};

// Holds the regions of dead sessions until there is proof of silence: the process's pidfd is
// readable *and* the driver's process list no longer names its pid. A dead pid alone proves
// nothing: with a forked child that lives on, a kernel of the dead process was seen writing until
// the child ended.
//
// Where the driver's list cannot be had there is no proof; then the regions of exited processes go
// back to the driver, which never reuses memory that is still mapped anywhere, and are not used
// again by us.
//
// Invariants: a region held here is on the device heap's books as quarantined.
// Owns: the quarantined regions.
// Borrows: device heap, process list, clock.
// Thread safety: thread-safe.
class Fence {
 public:
  // `processes` may be null: see above.
  Fence(DeviceHeap& heap, cuda::ProcessList* processes, const Clock& clock)
      : heap_(heap), processes_(processes), clock_(clock) {}
  // Gives what is left to the driver.
  ~Fence();

  void Hold(DeadSession session, std::vector<Region> regions);

  // Reads the process list once and lets go of everything proven. Returns what was let go.
  std::vector<QuarantineInfo> Poll();

  bool empty() const;
  std::vector<QuarantineInfo> List() const;

 private:
  struct Quarantine {
    DeadSession session;
    std::vector<Region> regions;
    BootTime since;
    std::string reason;
  };

  QuarantineInfo Describe(const Quarantine& quarantine) const;
  // Why this session's regions must wait; empty when they need not. `listed` is null when the list
  // cannot be read.
  std::string Missing(const Peer& peer, const std::vector<pid_t>* listed) const;

  DeviceHeap& heap_;
  cuda::ProcessList* const processes_;
  const Clock& clock_;

  mutable absl::Mutex mu_;
  std::vector<Quarantine> quarantines_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_FENCE_H_
