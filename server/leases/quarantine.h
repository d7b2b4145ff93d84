// Where the regions of dead sessions wait until they may serve again.
#ifndef SERVER_LEASES_QUARANTINE_H_
#define SERVER_LEASES_QUARANTINE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "server/identity/ids.h"
#include "server/leases/lease.h"
#include "server/leases/lease_journal.h"
#include "server/memory/device_heap.h"
#include "server/memory/region.h"

namespace tenure::server {

// A dead session in quarantine.
struct QuarantineInfo {
  SessionId session = 0;
  std::shared_ptr<const Lease> lease;
  Bytes bytes;
  uint64_t regions = 0;
  absl::Duration age;
  // Why its regions may not serve yet.
  std::string reason;
};

// Holds the regions of dead sessions: first until the fence has decided about the session, then,
// when there is proof, until the last of its regions is cleared.
//
// Invariants
//  1. A region that waits for the fence is on the device heap's books as quarantined.
//  2. The journal says that a session has ended before one of its regions leaves.
//  3. Each session that had a region is reported once: when the last one is cleared, or when the
//     driver gets them all.
// Owns: the regions that wait for the fence.
// Borrows: device heap, clock, journal. The heap outlives it, and so may the completions that it
//     gave to the heap: they do nothing then.
// Thread safety: thread-safe. `on_reclaimed` runs without any lock, on the thread that cleared the
//     last region, or on the one that called Release.
class Quarantine : public std::enable_shared_from_this<Quarantine> {
 public:
  // Called once for each session whose regions may serve again, or have gone to the driver.
  using OnReclaimed = std::function<void(const QuarantineInfo&)>;
  // A session about which the fence has to decide, by its place in the quarantine.
  struct Waiting {
    uint64_t place = 0;
    std::shared_ptr<const Lease> lease;
  };

  // `on_reclaimed` may be null.
  static std::shared_ptr<Quarantine> Create(DeviceHeap& heap, const Clock& clock,
                                            LeaseJournal& journal,
                                            OnReclaimed on_reclaimed = nullptr);
  // Gives the regions that still wait for the fence to the driver, and reports nothing.
  ~Quarantine();

  // The last block of an orphaned session has come back. `regions` are all that it had; perhaps
  // none, and then the lease ends at once.
  void Hold(SessionId session, std::shared_ptr<Lease> lease, std::vector<Region> regions);

  // The sessions that wait for the fence, oldest first.
  std::vector<Waiting> waiting() const;
  // Says why this session has to wait longer. `forked`: because the driver still lists its process.
  void NoteReason(uint64_t place, absl::string_view reason, bool forked);
  // Ends the session's wait. kProven: its regions are cleared, then serve again. kUnprovable: they
  // go to the driver. REQUIRES: the session waits.
  void Release(uint64_t place, LeaseEvent event);

  // Whether a session waits for the fence.
  bool empty() const;
  // The sessions that wait for the fence, then those that wait to be cleared.
  std::vector<QuarantineInfo> List() const;

 private:
  struct Entry {
    SessionId session = 0;
    std::shared_ptr<Lease> lease;
    Bytes bytes;
    uint64_t count = 0;
    std::vector<Region> regions;  // empty once they have left
    std::string reason;
    uint64_t to_clear = 0;  // of proven regions
  };
  // By place, which is the order in which the sessions came.
  using Entries = std::map<uint64_t, Entry>;

  Quarantine(DeviceHeap& heap, const Clock& clock, LeaseJournal& journal, OnReclaimed on_reclaimed)
      : heap_(heap), clock_(clock), journal_(journal), on_reclaimed_(std::move(on_reclaimed)) {}

  void ReleaseProven(uint64_t place, std::vector<Region> regions);
  void ReleaseUnproven(std::vector<Region> regions);
  // A proven region of the session was cleared. On the clearing thread, with no lock held.
  void NoteCleared(uint64_t place);
  QuarantineInfo Describe(const Entry& entry) const;
  void Report(const QuarantineInfo& reclaimed) const;

  DeviceHeap& heap_;
  const Clock& clock_;
  LeaseJournal& journal_;
  const OnReclaimed on_reclaimed_;

  // Guards the two lists. Neither a driver call nor a call of the heap is made under it; only a
  // lease's lock is taken.
  mutable absl::Mutex mu_;
  uint64_t next_place_ ABSL_GUARDED_BY(mu_) = 1;
  Entries waiting_ ABSL_GUARDED_BY(mu_);
  Entries clearing_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_QUARANTINE_H_
