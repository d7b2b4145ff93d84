// The proof that a process can no longer touch its regions.
#ifndef SERVER_LEASES_FENCE_H_
#define SERVER_LEASES_FENCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "common/cuda/process_list.h"
#include "server/identity/ids.h"
#include "server/leases/lease.h"
#include "server/leases/lease_journal.h"
#include "server/memory/device_heap.h"
#include "server/memory/region.h"

namespace tenure::server {

// What is left of a dead session.
struct QuarantineInfo {
  SessionId session = 0;
  std::shared_ptr<const Lease> lease;
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
// Borrows: device heap, process list, clock, journal.
// Thread safety: thread-safe.
class Fence {
 public:
  // `processes` may be null: see above.
  Fence(DeviceHeap& heap, cuda::ProcessList* processes, const Clock& clock, LeaseJournal& journal)
      : heap_(heap), processes_(processes), clock_(clock), journal_(journal) {}
  // Gives what is left to the driver.
  ~Fence();

  // The last block of an orphaned lease is back, and these are its regions, perhaps none.
  void Hold(SessionId session, std::shared_ptr<Lease> lease, std::vector<Region> regions);

  // Reads the process list once, if anything waits for it, and lets go of everything proven.
  // Returns the leases that came to their end since the last call. From one thread at a time.
  std::vector<QuarantineInfo> Poll();

  // Whether anything waits for proof.
  bool waiting() const;
  // What waits for proof or, proven, to be cleared.
  std::vector<QuarantineInfo> List() const;

 private:
  struct Quarantine {
    SessionId session = 0;
    std::shared_ptr<Lease> lease;
    Bytes bytes;
    uint64_t count = 0;
    std::vector<Region> regions;  // empty once they are proven
    bool exited = false;          // seen before the process list was read
    std::string reason;
  };
  using ProcessIds = absl::StatusOr<std::vector<pid_t>>;

  QuarantineInfo Describe(const Quarantine& quarantine) const;
  // Notes who has exited; whether anything waits for the list.
  bool NoteExits();
  // Decides about one that waits for proof: the event that lets it go, or why it must wait.
  absl::StatusOr<LeaseEvent> Judge(const Quarantine& quarantine, const ProcessIds& listed) const;
  void LetGo(Quarantine& quarantine, LeaseEvent event);

  DeviceHeap& heap_;
  cuda::ProcessList* const processes_;
  const Clock& clock_;
  LeaseJournal& journal_;

  mutable absl::Mutex mu_;
  std::vector<Quarantine> quarantines_ ABSL_GUARDED_BY(mu_);
  // Proven, being cleared.
  std::vector<Quarantine> fenced_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_FENCE_H_
