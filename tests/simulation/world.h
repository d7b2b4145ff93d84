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

// One run: a seed decides who does what and when, what the driver fails, and how time passes. All
// of the daemon's threads are played by this one: reaping, proving, clearing and looking after the
// silent are steps like the clients' own. Calls of different clients overlap: an allocation may
// stand between its admission and its attachment while others go on.
//
// After each step the rules of ownership are checked, against the books and against what this class
// itself remembers of who had which region:
//   1. a region serves one session;
//   2. no dead client's region is given to anybody before the driver has forgotten the client;
//   3. what is granted from a region that is new to a session is zero; a region given back by a
//      living session stays with its tenant;
//   4. unknown, foreign and freed ids are refused alike;
//   5. a repeated request gets its first answer;
//   6. the books balance, among themselves and against the driver;
//   7. after a driver error other than out-of-memory nothing more is granted;
//   8. time takes nothing: a process that is stopped or hung keeps all it has until it dies, gets
//      nothing new while it is silent, and is as it was before once it speaks again;
//   9. whoever is killed for its silence was silent for the grace time, and dies as others do;
//  10. a batch is granted whole or not at all.
//
// A broken rule is returned by Run, as words.
class World {
 public:
  World(SimulatedDevice& simulated, uint64_t seed);
  ~World();

  // Empty when every rule held.
  std::string Run(int steps);
  // Whether the driver was told to fail for good.
  bool poisoned() const { return poisoned_; }

 private:
  struct Block {
    server::Grant grant;
    uint64_t request = 0;
  };
  struct Session {
    server::SessionId id = 0;
    uint64_t open_request = 0;
    BootTime spoken;  // its last keep-alive, or its opening
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
    bool condemned = false;  // it was tried to kill it for its silence
    bool dying = false;      // killed, but still in a call of the driver
    // Another program runs in it: its sessions end some time, without a word to it.
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
  // Who had a region last.
  struct Owner {
    size_t process = 0;
    server::SessionId session = 0;
    bool stays_in_tenant = false;  // it was given back by a session that lived on
    bool given_back = false;       // by that session
    std::vector<uint64_t> soiled;  // where that session wrote
  };

  uint64_t Random(uint64_t below) { return random_() % below; }
  void Step();
  // What a process that runs does by itself.
  void Act(size_t process);
  void Spawn();
  void OpenSession(Process& process);
  void Allocate(size_t process);
  void AllocateBatch(size_t process);
  // Takes a block for one more request of a batch, or says why not. OK also for a request that was
  // granted before.
  absl::Status AddToBatch(UnderWay& batch, uint64_t request, Bytes size);
  // A request for the batch, most often a new one.
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
  void PassTime();
  void FailDriver();

  Process& Of(const server::ProcessKey& key);
  // How long beyond its lease's end the session has been silent; not positive: it is not overdue.
  absl::Duration OverdueBy(const Session& session) const;
  Session* PickSession(Process& process);
  size_t IndexOf(const Process& process) const;
  Session* FindSession(size_t process, server::SessionId id);
  Bytes PickSize();
  MemoryKind PickKind();
  void CheckGrant(size_t process, server::SessionId session, const server::Grant& grant,
                  cuda::DevicePointer region_base);
  // By this living process, in this session.
  void NoteGivenBack(server::RegionId region, const Process& process, server::SessionId session);
  // OK, or a refusal that this call may get now.
  void CheckRefusal(const absl::Status& status, const Process& process);
  void CheckBooks();
  // Every session that has not ended has all its blocks.
  void CheckHeld();
  void CheckJudged(const Process& process, const Session& session);
  void End();
  void Broken(const std::string& rule);

  SimulatedDevice& simulated_;
  std::mt19937_64 random_;
  ManualClock clock_;
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
