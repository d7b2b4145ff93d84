// The fence: the proof that a dead process can no longer touch its regions.
#ifndef SERVER_LEASES_FENCE_H_
#define SERVER_LEASES_FENCE_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"

#include "common/cuda/process_list.h"
#include "server/leases/lease.h"
#include "server/leases/quarantine.h"

namespace tenure::server {

// Decides about the sessions in quarantine. The proof has two parts: the pidfd of the process is
// readable, *and* the driver's process list no longer names its pid. A dead pid alone proves
// nothing: with a forked child that lives on, a kernel of the dead process was seen writing until
// the child ended.
//
// Where there is no process list, no proof is possible. Then the regions of exited processes go to
// the driver, which never reuses memory that a process still maps, and the daemon does not use them
// again.
//
// Borrows: quarantine and process list.
// Thread safety: Poll from one thread at a time, waiting from any.
class Fence {
 public:
  // `processes` may be null: see above.
  Fence(Quarantine& quarantine, cuda::ProcessList* processes)
      : quarantine_(quarantine), processes_(processes) {}

  // Releases each session in quarantine that is proven or cannot be proven, and notes why the
  // others have to wait. Reads the process list once, if a session in quarantine has exited.
  void Poll();

  // Whether a session waits for a decision.
  bool HasWaiting() const { return !quarantine_.empty(); }

 private:
  using ProcessIds = absl::StatusOr<std::vector<pid_t>>;

  // The event that releases a session whose process has exited, or the reason to wait:
  // FAILED_PRECONDITION when the driver still lists the process.
  absl::StatusOr<LeaseEvent> Decide(pid_t pid, const ProcessIds& listed) const;

  Quarantine& quarantine_;
  cuda::ProcessList* const processes_;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_FENCE_H_
