// Processes and their sessions: their start, their silence and their end.

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "common/check.h"
#include "tests/simulation/world.h"

namespace tenure::testing {

using server::LeaseEvent;
using server::LeaseRegistry;
using server::LeaseState;
using server::Peer;
using server::SessionId;

namespace {

constexpr size_t kMostSessions = 3;
// Beyond the largest pid of Linux (2^22), so no process has such a pid.
constexpr int kFirstPid = 1 << 23;

}  // namespace

void World::Spawn() {
  UniqueFd exit(eventfd(0, EFD_CLOEXEC));
  TENURE_CHECK(exit);
  Process process;
  const pid_t pid = kFirstPid + next_pid_++;
  process.peer = Peer::Imagined(std::move(exit), server::ProcessKey{pid, 1},
                                static_cast<uid_t>(1000 + Random(2)));
  // One in four maps nothing, and has no context on the device.
  process.listed = Random(4) != 0;
  if (process.listed) simulated_.control().Pretend(pid, true);
  processes_.push_back(std::move(process));
  OpenSession(processes_.back());
}

World::Session* World::PickSession(Process& process) {
  return process.sessions.empty() ? nullptr : &process.sessions[Random(process.sessions.size())];
}

World::Session* World::FindSession(size_t process, SessionId id) {
  for (Session& session : processes_[process].sessions) {
    if (session.id == id) return &session;
  }
  return nullptr;
}

size_t World::IndexOf(const Process& process) const {
  const auto found = std::find_if(processes_.begin(), processes_.end(),
                                  [&](const Process& one) { return &one == &process; });
  return static_cast<size_t>(found - processes_.begin());
}

void World::OpenSession(Process& process) {
  if (process.sessions.size() >= kMostSessions || process.execed) return;
  Session session;
  session.open_request = next_request_++;
  session.spoken = WatchedNow();
  session.id = registry_->Open(process.peer, session.open_request, "simulated").value();
  if (*registry_->Open(process.peer, session.open_request, "again") != session.id) {
    Broken("a repeated OpenSession opened another session");
  }
  process.sessions.push_back(std::move(session));
}

void World::CloseSession(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr) return;
  const SessionId id = session->id;
  const absl::Status closed = registry_->Close(*process.peer, id);
  if (!closed.ok() && !process.execed) Broken("a session could not be closed");
  if (closed.ok()) {
    for (auto& [region, owner] : owners_) {
      if (owner.session == id && !owner.given_back) NoteGivenBack(region, process, id);
    }
  }
  process.sessions.erase(process.sessions.begin() + (session - process.sessions.data()));
}

void World::KeepAlive(Process& process) {
  Session* const session = PickSession(process);
  if (session == nullptr) return;
  const absl::Status renewed = registry_->KeepAlive(*process.peer, session->id);
  if (!renewed.ok()) {
    if (!process.execed) Broken("a keep-alive was refused");
    return;
  }
  session->spoken = WatchedNow();
  if (registry_->FindLease(session->id)->state() != LeaseState::kActive) {
    Broken("a client is suspended after its keep-alive");
  }
}

void World::Kill(Process& process) {
  if (process.exited) return;
  const uint64_t one = 1;
  TENURE_CHECK(write(process.peer->pidfd(), &one, sizeof one) == sizeof one);
  process.exited = true;
  process.stopped = false;
  process.connected = false;
}

void World::Reap(Process& process) {
  if (!process.exited || process.reaped) return;
  registry_->Reclaim(process.peer->key());
  process.reaped = true;
  process.sessions.clear();
}

void World::ForgetByDriver(Process& process) {
  if (!process.exited || !process.listed) return;
  process.listed = false;
  simulated_.control().Pretend(process.peer->pid(), false);
}

void World::Exec(Process& process) {
  process.execed = true;
  process.connected = false;
  process.listed = false;
  simulated_.control().Pretend(process.peer->pid(), false);
}

void World::StopOrContinue(Process& process) {
  if (process.exited || process.dying) return;
  process.stopped = !process.stopped;
}

void World::Disconnect(Process& process) {
  // The daemon takes a process without a connection and without a context for one that has started
  // another program. Only Exec does that here.
  if (process.listed) process.connected = false;
}

void World::Prove() {
  fence_->Poll();
  LookAtTheSilent();
}

void World::LookAtTheSilent() {
  std::set<SessionId> before;
  for (const server::SessionInfo& info : registry_->ListSessions()) before.insert(info.id);
  overdue_->Check();
  NoteLook();
  for (const Process& process : processes_) {
    for (const Session& session : process.sessions) {
      if (before.contains(session.id)) CheckJudged(process, session);
    }
  }
}

void World::CheckJudged(const Process& process, const Session& session) {
  const std::shared_ptr<const server::Lease> lease = registry_->FindLease(session.id);
  const absl::Duration overdue = OverdueBy(session);
  if (overdue <= absl::ZeroDuration()) {
    if (lease == nullptr || lease->state() != LeaseState::kActive) {
      Broken("a client whose keep-alives come in time counts as overdue");
    }
    return;
  }
  if (lease == nullptr) {
    if (!process.execed || process.stopped) Broken("a silent client has lost its session");
    return;
  }
  if (lease->state() != LeaseState::kSuspended) Broken("a silent client is not suspended");
  if (process.exited || process.dying) return;
  if (lease->cause() != (process.stopped ? LeaseEvent::kStopped : LeaseEvent::kHung)) {
    Broken("the cause says hung for stopped, or stopped for hung");
  }
  if (kill_hung_ && overdue >= grace_ && !process.condemned) {
    Broken("a client outlived its grace time");
  }
}

absl::Status World::KillSilent(const Peer& peer) {
  Process& process = Of(peer.key());
  // The registry is not asked: this runs under its lock. At this moment the daemon has looked.
  NoteLook();
  const bool due =
      std::any_of(process.sessions.begin(), process.sessions.end(),
                  [this](const Session& session) { return OverdueBy(session) >= grace_; });
  if (!kill_hung_ || !due || process.exited) Broken("a client was killed without need");
  process.condemned = true;
  switch (Random(4)) {
    case 0:
      return absl::PermissionDeniedError("the daemon may not");
    case 1:
      process.dying = true;
      process.stopped = false;
      return absl::OkStatus();
    default:
      Kill(process);
      return absl::OkStatus();
  }
}

World::Process& World::Of(const server::ProcessKey& key) {
  return *std::find_if(processes_.begin(), processes_.end(),
                       [&key](const Process& process) { return process.peer->key() == key; });
}

absl::Duration World::OverdueBy(const Session& session) const {
  return WatchedNow() - session.spoken - registry_->lease_ttl();
}

void World::CheckHeld() {
  std::map<SessionId, uint64_t> held;
  for (const server::SessionInfo& info : registry_->ListSessions()) {
    held[info.id] = info.allocations;
  }
  for (const Process& process : processes_) {
    for (const Session& session : process.sessions) {
      const auto found = held.find(session.id);
      if (found == held.end()) {
        if (!process.execed) Broken("a session ended before its process");
        continue;
      }
      if (found->second != session.blocks.size())
        Broken("a session does not hold the blocks that it was granted");
      held.erase(found);
    }
  }
  if (!held.empty()) Broken("an ended session still holds blocks");
}

void World::PassTime() {
  constexpr std::array<int64_t, 4> kSeconds = {1, 5, 11, 200};
  const absl::Duration time = absl::Seconds(kSeconds[Random(kSeconds.size())]);
  for (absl::Duration left = time; left > absl::ZeroDuration();
       left -= LeaseRegistry::kLongestLook) {
    clock_.Advance(LeaseRegistry::kLongestLook);
    registry_->SuspendOverdue();
    NoteLook();
  }
}

void World::Pause() {
  constexpr std::array<int64_t, 4> kMilliseconds = {300, 700, 11'000, 100'000'000};
  clock_.Advance(absl::Milliseconds(kMilliseconds[Random(kMilliseconds.size())]));
}

void World::NoteLook() {
  watched_ = WatchedNow();
  last_look_ = clock_.Now();
}

absl::Duration World::WatchedNow() const {
  return watched_ + std::min(clock_.Now() - last_look_, LeaseRegistry::kLongestLook);
}

}  // namespace tenure::testing
