#include "server/leases/quarantine.h"

#include <utility>

#include "common/check.h"
#include "common/cuda/no_driver_calls.h"

namespace tenure::server {

std::shared_ptr<Quarantine> Quarantine::Create(DeviceHeap& heap, const Clock& clock,
                                               LeaseJournal& journal, OnReclaimed on_reclaimed) {
  return std::shared_ptr<Quarantine>(new Quarantine(heap, clock, journal, std::move(on_reclaimed)));
}

Quarantine::~Quarantine() {
  // The destructor runs alone, so the entries are taken first and handled without the lock.
  Entries left;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    left.swap(waiting_);
  }
  for (auto& [place, entry] : left) {
    TENURE_CHECK(entry.lease->On(LeaseEvent::kUnprovable));
    journal_.SessionEnded(entry.session).IgnoreError();
    ReleaseUnproven(std::move(entry.regions));
  }
}

void Quarantine::Hold(SessionId session, std::shared_ptr<Lease> lease,
                      std::vector<Region> regions) {
  if (regions.empty()) {
    TENURE_CHECK(lease->On(LeaseEvent::kNothingHeld));
    // The journal may know the session all the same: by a claim, an attachment or a freed block.
    journal_.SessionEnded(session).IgnoreError();
    return;
  }
  TENURE_CHECK(lease->On(LeaseEvent::kHeld));
  Entry entry;
  entry.session = session;
  entry.lease = std::move(lease);
  entry.count = regions.size();
  entry.regions = std::move(regions);
  entry.reason = "the driver's process list was not read yet";
  // Before the entry can be seen: a release takes the regions off the quarantined bytes again.
  for (const Region& region : entry.regions) {
    heap_.Quarantine(region);
    entry.bytes += region.size();
  }
  cuda::NoDriverCallsLock lock(&mu_);
  waiting_.emplace(next_place_++, std::move(entry));
}

std::vector<Quarantine::Waiting> Quarantine::waiting() const {
  cuda::NoDriverCallsLock lock(&mu_);
  // A copy, because the fence takes milliseconds for its decisions and reads leases meanwhile.
  std::vector<Waiting> sessions;
  sessions.reserve(waiting_.size());
  for (const auto& [place, entry] : waiting_) sessions.push_back(Waiting{place, entry.lease});
  return sessions;
}

void Quarantine::NoteReason(uint64_t place, absl::string_view reason, bool forked) {
  cuda::NoDriverCallsLock lock(&mu_);
  Entry& entry = waiting_.at(place);
  if (forked) entry.lease->On(LeaseEvent::kForked);
  entry.reason = std::string(reason);
}

void Quarantine::Release(uint64_t place, LeaseEvent event) {
  const bool proven = event == LeaseEvent::kProven;
  std::vector<Region> regions;
  QuarantineInfo info;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    auto released = waiting_.extract(place);
    TENURE_CHECK(!released.empty());
    Entry& entry = released.mapped();
    TENURE_CHECK(entry.lease->On(event));
    regions = std::exchange(entry.regions, {});
    entry.to_clear = entry.count;
    entry.reason = "its regions wait to be cleared";
    info = Describe(entry);
    // Before the heap gets the first region: a clearing thread may be done with that one at once,
    // and NoteCleared must find the entry.
    if (proven) clearing_.insert(std::move(released));
  }
  // Before a region can be granted again: the next life of the daemon must not restore it for the
  // dead session. A record that cannot be written has failed the health, so nothing is granted.
  journal_.SessionEnded(info.session).IgnoreError();
  if (proven) {
    ReleaseProven(place, std::move(regions));
  } else {
    ReleaseUnproven(std::move(regions));
    Report(info);
  }
}

void Quarantine::ReleaseProven(uint64_t place, std::vector<Region> regions) {
  for (Region& region : regions) {
    // A weak reference: the heap outlives the quarantine, and at the daemon's end it frees regions
    // after the quarantine is destroyed.
    heap_.ReturnProven(std::move(region), [self = weak_from_this(), place] {
      if (const std::shared_ptr<Quarantine> quarantine = self.lock()) {
        quarantine->NoteCleared(place);
      }
    });
  }
}

void Quarantine::ReleaseUnproven(std::vector<Region> regions) {
  for (Region& region : regions) heap_.ReturnUnproven(std::move(region));
}

void Quarantine::NoteCleared(uint64_t place) {
  QuarantineInfo info;
  {
    cuda::NoDriverCallsLock lock(&mu_);
    const auto found = clearing_.find(place);
    TENURE_CHECK(found != clearing_.end());
    Entry& entry = found->second;
    // Only the last region ends the wait: until then the session's memory is not all back.
    if (--entry.to_clear > 0) return;
    TENURE_CHECK(entry.lease->On(LeaseEvent::kCleared));
    info = Describe(entry);
    clearing_.erase(found);
  }
  Report(info);
}

bool Quarantine::empty() const {
  cuda::NoDriverCallsLock lock(&mu_);
  return waiting_.empty();
}

std::vector<QuarantineInfo> Quarantine::List() const {
  cuda::NoDriverCallsLock lock(&mu_);
  std::vector<QuarantineInfo> list;
  list.reserve(waiting_.size() + clearing_.size());
  for (const auto& [place, entry] : waiting_) list.push_back(Describe(entry));
  for (const auto& [place, entry] : clearing_) list.push_back(Describe(entry));
  return list;
}

QuarantineInfo Quarantine::Describe(const Entry& entry) const {
  return QuarantineInfo{entry.session,
                        entry.lease,
                        entry.bytes,
                        entry.count,
                        clock_.Now() - entry.lease->entered(LeaseState::kOrphaned),
                        entry.reason};
}

void Quarantine::Report(const QuarantineInfo& reclaimed) const {
  if (on_reclaimed_) on_reclaimed_(reclaimed);
}

}  // namespace tenure::server
