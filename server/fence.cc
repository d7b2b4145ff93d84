#include "server/fence.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {

Fence::~Fence() {
  absl::MutexLock lock(&mu_);
  for (Quarantine& quarantine : quarantines_) {
    for (Region& region : quarantine.regions) heap_.GiveBackUnproven(std::move(region));
  }
}

void Fence::Hold(DeadSession session, std::vector<Region> regions) {
  if (regions.empty()) return;
  for (const Region& region : regions) heap_.Quarantine(region);
  absl::MutexLock lock(&mu_);
  quarantines_.push_back(Quarantine{std::move(session), std::move(regions), clock_.Now(),
                                    "the driver's process list was not read yet"});
}

std::vector<QuarantineInfo> Fence::Poll() {
  if (empty()) return {};
  absl::StatusOr<std::vector<pid_t>> listed = absl::UnavailableError("no process list");
  if (processes_ != nullptr) listed = processes_->ComputeProcesses();

  std::vector<Quarantine> proven;
  {
    absl::MutexLock lock(&mu_);
    const auto waiting = std::stable_partition(
        quarantines_.begin(), quarantines_.end(), [&](Quarantine& quarantine) {
          quarantine.reason = Missing(*quarantine.session.peer, listed.ok() ? &*listed : nullptr);
          return !quarantine.reason.empty();
        });
    for (auto it = waiting; it != quarantines_.end(); ++it) proven.push_back(std::move(*it));
    quarantines_.erase(waiting, quarantines_.end());
  }
  std::vector<QuarantineInfo> released;
  for (Quarantine& quarantine : proven) {
    released.push_back(Describe(quarantine));
    for (Region& region : quarantine.regions) {
      if (processes_ == nullptr) {
        heap_.GiveBackUnproven(std::move(region));
      } else {
        heap_.GiveBackProven(std::move(region), quarantine.session.peer->tenant());
      }
    }
  }
  return released;
}

bool Fence::empty() const {
  absl::MutexLock lock(&mu_);
  return quarantines_.empty();
}

std::vector<QuarantineInfo> Fence::List() const {
  absl::MutexLock lock(&mu_);
  std::vector<QuarantineInfo> list;
  for (const Quarantine& quarantine : quarantines_) list.push_back(Describe(quarantine));
  return list;
}

QuarantineInfo Fence::Describe(const Quarantine& quarantine) const {
  Bytes bytes;
  for (const Region& region : quarantine.regions) bytes += region.size();
  return QuarantineInfo{quarantine.session, bytes, quarantine.regions.size(),
                        clock_.Now() - quarantine.since, quarantine.reason};
}

std::string Fence::Missing(const Peer& peer, const std::vector<pid_t>* listed) const {
  if (!peer.Exited()) return absl::StrCat("process ", peer.pid(), " has not exited");
  if (processes_ == nullptr) return "";
  if (listed == nullptr) return "the driver's process list cannot be read";
  if (std::find(listed->begin(), listed->end(), peer.pid()) != listed->end()) {
    return absl::StrCat(
        "the driver still lists process ", peer.pid(),
        ": a child that it forked keeps its device files open, and its kernels may still write");
  }
  return "";
}

}  // namespace tenure::server
