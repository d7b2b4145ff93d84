#include "server/leases/fence.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {

Fence::~Fence() {
  absl::MutexLock lock(&mu_);
  for (Quarantine& quarantine : quarantines_) LetGo(quarantine, LeaseEvent::kUnprovable);
}

void Fence::Hold(SessionId session, std::shared_ptr<Lease> lease, std::vector<Region> regions) {
  if (regions.empty()) {
    TENURE_CHECK(lease->On(LeaseEvent::kNothingHeld));
    journal_.SessionEnded(session, *lease).IgnoreError();
    return;
  }
  TENURE_CHECK(lease->On(LeaseEvent::kHeld));
  Quarantine quarantine;
  quarantine.session = session;
  quarantine.lease = std::move(lease);
  quarantine.count = regions.size();
  quarantine.regions = std::move(regions);
  quarantine.reason = "the driver's process list was not read yet";
  for (const Region& region : quarantine.regions) {
    heap_.Quarantine(region);
    quarantine.bytes += region.size();
  }
  absl::MutexLock lock(&mu_);
  quarantines_.push_back(std::move(quarantine));
}

bool Fence::NoteExits() {
  absl::MutexLock lock(&mu_);
  bool any = false;
  for (Quarantine& quarantine : quarantines_) {
    quarantine.exited = quarantine.exited || quarantine.lease->peer()->Exited();
    any = any || quarantine.exited;
  }
  return any;
}

std::vector<QuarantineInfo> Fence::Poll() {
  // First the exits, then the list: in a list from before its exit a process may be missing because
  // it had no context yet.
  const bool any_exited = NoteExits();
  ProcessIds listed = absl::UnavailableError("there is none");
  if (processes_ != nullptr && any_exited) listed = processes_->ComputeProcesses();

  std::vector<QuarantineInfo> over;
  absl::MutexLock lock(&mu_);
  std::vector<Quarantine> still_waiting;
  for (Quarantine& quarantine : quarantines_) {
    const absl::StatusOr<LeaseEvent> event = Judge(quarantine, listed);
    if (!event.ok()) {
      if (absl::IsFailedPrecondition(event.status())) quarantine.lease->On(LeaseEvent::kForked);
      quarantine.reason = std::string(event.status().message());
      still_waiting.push_back(std::move(quarantine));
      continue;
    }
    LetGo(quarantine, *event);
    if (*event == LeaseEvent::kProven) {
      fenced_.push_back(std::move(quarantine));
    } else {
      over.push_back(Describe(quarantine));
    }
  }
  quarantines_ = std::move(still_waiting);
  const auto cleared = std::stable_partition(
      fenced_.begin(), fenced_.end(),
      [](const Quarantine& one) { return one.lease->state() != LeaseState::kScrubbed; });
  for (auto it = cleared; it != fenced_.end(); ++it) over.push_back(Describe(*it));
  fenced_.erase(cleared, fenced_.end());
  return over;
}

bool Fence::waiting() const {
  absl::MutexLock lock(&mu_);
  return !quarantines_.empty();
}

std::vector<QuarantineInfo> Fence::List() const {
  absl::MutexLock lock(&mu_);
  std::vector<QuarantineInfo> list;
  for (const Quarantine& quarantine : quarantines_) list.push_back(Describe(quarantine));
  for (const Quarantine& quarantine : fenced_) list.push_back(Describe(quarantine));
  return list;
}

QuarantineInfo Fence::Describe(const Quarantine& quarantine) const {
  return QuarantineInfo{quarantine.session,
                        quarantine.lease,
                        quarantine.bytes,
                        quarantine.count,
                        clock_.Now() - quarantine.lease->entered(LeaseState::kOrphaned),
                        quarantine.reason};
}

absl::StatusOr<LeaseEvent> Fence::Judge(const Quarantine& quarantine,
                                        const ProcessIds& listed) const {
  const Peer& peer = *quarantine.lease->peer();
  if (!quarantine.exited) {
    return absl::UnavailableError(absl::StrCat("process ", peer.pid(), " has not exited"));
  }
  if (processes_ == nullptr) return LeaseEvent::kUnprovable;
  if (!listed.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the driver's process list cannot be read: ", listed.status().message()));
  }
  if (std::find(listed->begin(), listed->end(), peer.pid()) != listed->end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the driver still lists process ", peer.pid(),
        ": a child that it forked keeps its device files open, and its kernels may still write"));
  }
  return LeaseEvent::kProven;
}

void Fence::LetGo(Quarantine& quarantine, LeaseEvent event) {
  TENURE_CHECK(quarantine.lease->On(event));
  const bool proven = event == LeaseEvent::kProven;
  // Before its regions can be anybody's: the next life of the daemon must not think them held.
  journal_.SessionEnded(quarantine.session, *quarantine.lease).IgnoreError();
  if (proven) quarantine.lease->ExpectClears(quarantine.count);
  for (Region& region : quarantine.regions) {
    if (proven) {
      heap_.ReturnProven(std::move(region), [lease = quarantine.lease] { lease->NoteCleared(); });
    } else {
      heap_.ReturnUnproven(std::move(region));
    }
  }
  quarantine.regions.clear();
  quarantine.reason = "its regions wait to be cleared";
}

}  // namespace tenure::server
