#include "server/leases/fence.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

// A session whose pid the driver listed has been seen to exit before, which saves the system call:
// a forked child may keep it waiting for hours.
bool HasExited(const Lease& lease) {
  return lease.cause() == LeaseEvent::kForked || lease.peer()->Exited();
}

}  // namespace

void Fence::Poll() {
  // First the exits, then the list. A process that opens its context between a list and its exit is
  // missing in that list; so a list proves something only about processes that had exited before.
  // Sessions that come into quarantine meanwhile are not in `exited`: they wait for the next list.
  std::vector<Quarantine::Waiting> exited;
  for (Quarantine::Waiting& one : quarantine_.waiting()) {
    if (HasExited(*one.lease)) {
      exited.push_back(std::move(one));
    } else {
      quarantine_.NoteReason(one.place,
                             absl::StrCat("process ", one.lease->peer()->pid(), " has not exited"),
                             /*forked=*/false);
    }
  }
  if (exited.empty()) return;
  // The list takes milliseconds, so it is read once for all.
  ProcessIds listed = absl::UnavailableError("there is none");
  if (processes_ != nullptr) listed = processes_->ComputeProcesses();
  for (const Quarantine::Waiting& one : exited) {
    const absl::StatusOr<LeaseEvent> event = Decide(one.lease->peer()->pid(), listed);
    if (event.ok()) {
      quarantine_.Release(one.place, *event);
    } else {
      quarantine_.NoteReason(one.place, event.status().message(),
                             /*forked=*/absl::IsFailedPrecondition(event.status()));
    }
  }
}

absl::StatusOr<LeaseEvent> Fence::Decide(pid_t pid, const ProcessIds& listed) const {
  if (processes_ == nullptr) return LeaseEvent::kUnprovable;
  if (!listed.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the driver's process list cannot be read: ", listed.status().message()));
  }
  if (std::find(listed->begin(), listed->end(), pid) != listed->end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the driver still lists process ", pid,
        ": a child that it forked keeps its device files open, and its kernels may still write"));
  }
  return LeaseEvent::kProven;
}

}  // namespace tenure::server
