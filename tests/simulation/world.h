// The daemon's core among clients that do everything clients can do, in any order.
#ifndef TESTS_SIMULATION_WORLD_H_
#define TESTS_SIMULATION_WORLD_H_

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "server/background/overdue_watch.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"
#include "server/memory/device_heap.h"
#include "server/memory/health.h"
#include "tests/support/manual_clock.h"
#include "tests/support/simulated_device.h"

namespace tenure::testing {

// One run. A seed decides each step of each client, each failure of the driver, and how time
// passes. One thread plays all threads of the daemon: reaping, proving, clearing and the watch for
// silent clients are steps like those of the clients. Calls of different clients overlap: between
// the admission of an allocation and its attachment, other clients make steps.
//
// After each step the rules of ownership are checked, against the daemon's records and against this
// class's own record of the owner of each region:
//   1. A region serves one session.
//   2. A dead client's region is given to no other client before the driver's list has dropped the
//      dead one.
//   3. A block from a region that is new to its session is zero. A region that a living session
//      returned stays with its tenant.
//   4. Unknown, foreign and freed ids get the same refusal.
//   5. A repeated request gets its first answer.
//   6. The daemon's records agree with each other and with the driver.
//   7. After a driver error other than out-of-memory nothing more is granted.
//   8. Time alone takes no memory. A process that is stopped or hung keeps all its blocks until it
//      dies. It gets no new block while it is silent, and is served as before after its next call.
//   9. A process that is killed for its silence was silent for the grace time. Its memory is
//      reclaimed like that of any other dead process.
//     Time in which the daemon did not look does not count as silence.
//  10. A batch is granted as a whole or not at all.
//
// Run returns the rule that was broken, in words.
class World {
 public:
  World(SimulatedDevice& simulated, uint64_t seed);
  ~World();

  // Empty when every rule held.
  std::string Run(int steps);
  // Whether the driver was made to fail until the end of the run.
  bool poisoned() const { return poisoned_; }

 private:
  struct Block {
    server::Grant grant;
    uint64_t request = 0;
  };
  struct Session {
    server::SessionId id = 0;
    uint64_t open_request = 0;
    absl::Duration spoken;  // its last keep-alive, or its opening, in watched time
    std::vector<Block> blocks;
    std::optional<std::pair<uint64_t, server::AllocationId>> last_free;
  };
  struct Process {
    std::shared_ptr<const server::Peer> peer;
    bool exited = false;
    bool reaped = false;  // the daemon was told
    bool listed = true;   // by the driver
    bool connected = true;
    bool stopped = false;
    bool condemned = false;  // the daemon has tried to kill it for its silence
    bool dying = false;      // killed, but still in a call of the driver
    // Another program runs in it. Its sessions end at some later time, and no call reports that.
    bool execed = false;
    std::vector<Session> sessions;
    bool runs() const { return !exited && !stopped && !dying; }
  };
  // An allocation, or a batch of them, between its admission and its attachment.
  struct UnderWay {
    size_t process = 0;
    server::SessionId session = 0;
    std::vector<uint64_t> requests;
    std::vector<server::LeaseRegistry::Pending> pending;
  };
  // The last owner of a region.
  struct Owner {
    size_t process = 0;
    server::SessionId session = 0;
    bool stays_in_tenant = false;  // a session that lived on returned it
    bool given_back = false;       // that session has returned it
    std::vector<uint64_t> soiled;  // the offsets at which that session wrote
  };

  uint64_t Random(uint64_t below) { return random_() % below; }
  void Step();
  // One step of a running process.
  void Act(size_t process);
  void Spawn();
  void OpenSession(Process& process);
  void Allocate(size_t process);
  void AllocateBatch(size_t process);
  // Takes a block for one more request of a batch, or returns the refusal. OK also for a request
  // that was granted before.
  absl::Status AddToBatch(UnderWay& batch, uint64_t request, Bytes size);
  // The id of a request for the batch, in most cases a new one.
  uint64_t PickRequest(const Session& session);
  // A batch that is refused leaves nothing: no block and no trace of its requests.
  void CheckRolledBack(const UnderWay& batch, Bytes held_before);
  // In blocks, attached or under way.
  Bytes HeldBy(server::SessionId session) const;
  void Attach(std::list<UnderWay>::iterator under_way);
  void RepeatAllocate(Process& process);
  void Free(Process& process);
  void RepeatFree(Process& process);
  void Intrude(size_t process);
  void CloseSession(Process& process);
  void KeepAlive(Process& process);
  void Kill(Process& process);
  void Reap(Process& process);
  void ForgetByDriver(Process& process);
  void Exec(Process& process);
  void StopOrContinue(Process& process);
  void Disconnect(Process& process);
  void Prove();
  void LookAtTheSilent();
  // The daemon kills a process for its silence.
  absl::Status KillSilent(const server::Peer& peer);
  // Time in which the daemon looks after its sessions, and time in which it does not run.
  void PassTime();
  void Pause();
  // The daemon has looked after its sessions.
  void NoteLook();
  // The time in which the daemon has looked, by this class's own account.
  absl::Duration WatchedNow() const;
  void FailDriver();

  Process& Of(const server::ProcessKey& key);
  // How long ago the lease of a silent session expired. Zero or less: the session is not overdue.
  absl::Duration OverdueBy(const Session& session) const;
  Session* PickSession(Process& process);
  size_t IndexOf(const Process& process) const;
  Session* FindSession(size_t process, server::SessionId id);
  Bytes PickSize();
  MemoryKind PickKind();
  void CheckGrant(size_t process, server::SessionId session, const server::Grant& grant,
                  cuda::DevicePointer region_base);
  // This living process has returned a region, in this session.
  void NoteGivenBack(server::RegionId region, const Process& process, server::SessionId session);
  // Checks that the status is OK or a refusal that this call may get now.
  void CheckRefusal(const absl::Status& status, const Process& process);
  void CheckBooks();
  // Checks that each session that has not ended has all its blocks.
  void CheckHeld();
  void CheckJudged(const Process& process, const Session& session);
  void End();
  void Broken(const std::string& rule);

  SimulatedDevice& simulated_;
  std::mt19937_64 random_;
  ManualClock clock_;
  absl::Duration watched_;  // until the last look
  BootTime last_look_ = clock_.Now();
  server::Health health_;
  server::LeaseJournal journal_{nullptr, health_};
  std::unique_ptr<server::DeviceHeap> heap_;
  std::shared_ptr<server::Quarantine> quarantine_;
  std::unique_ptr<server::Fence> fence_;
  std::unique_ptr<server::LeaseRegistry> registry_;
  std::unique_ptr<server::OverdueWatch> overdue_;
  bool kill_hung_ = false;
  absl::Duration grace_;
  std::deque<Process> processes_;
  std::list<UnderWay> under_way_;
  std::map<server::RegionId, Owner> owners_;
  uint64_t next_request_ = 1;
  int next_pid_ = 0;
  Bytes other_at_start_;
  bool poisoned_ = false;
  std::string broken_;
};

}  // namespace tenure::testing

#endif  // TESTS_SIMULATION_WORLD_H_
