// The daemon's core without sockets and threads, and processes whose calls a fuzzer chooses.
#ifndef TESTS_FUZZ_REQUEST_WORLD_H_
#define TESTS_FUZZ_REQUEST_WORLD_H_

#include <array>
#include <cstddef>
#include <deque>
#include <memory>

#include "absl/status/status.h"

#include "server/background/overdue_watch.h"
#include "server/background/reaper.h"
#include "server/calls/admin_handlers.h"
#include "server/calls/allocator_handlers.h"
#include "server/calls/segment_handlers.h"
#include "server/calls/stats_handlers.h"
#include "server/calls/ticket_table.h"
#include "server/identity/peer.h"
#include "server/leases/fence.h"
#include "server/leases/lease_registry.h"
#include "server/leases/recovery.h"
#include "server/memory/device_heap.h"
#include "server/memory/health.h"
#include "server/report/http_endpoint.h"
#include "server/report/stats.h"
#include "server/transport/connection_table.h"
#include "tests/fuzz/choices.h"
#include "tests/support/manual_clock.h"
#include "tests/support/simulated_device.h"

namespace tenure::testing {

// One life of the daemon's core. Processes of root and of two tenants make every call, with any ids
// and at any time, also while they die. The work of the daemon's threads is done in steps between
// the calls.
//
// A broken rule aborts:
//   1. a call ends with a status that the contract names;
//   2. a call takes effect only for the process of the session; a user sees its own allocations
//   only;
//   3. a granted allocation is listed once, lies in a region that only its session has, and
//   overlaps
//      no other; a repeated Allocate gets its first answer;
//   4. the books balance, among themselves and against the driver;
//   5. after the end of all processes only segments are left, and after their end nothing.
//
// A new call needs one line in Step.
// Borrows: the device.
// Thread safety: thread-confined.
class RequestWorld {
 public:
  RequestWorld(SimulatedDevice& simulated, Choices& choices);
  ~RequestWorld();

  void Step(Choices choices);
  // Checks the books, ends all processes, and checks that all memory returns.
  void End();

 private:
  struct Process {
    std::shared_ptr<const server::Peer> peer;  // null until its first call
    bool exited = false;
    bool reaped = false;
    bool listed = true;
    bool over() const { return peer == nullptr || (reaped && !listed); }
  };
  // An Allocate before its second step, which may wait for the driver.
  struct Growing {
    size_t caller = 0;
    v1::AllocateRequest request;
    server::AllocatorHandlers::Growth growth;
  };

  // `Prepaid` is `bool`, or nothing: what the handler reports beside its answer.
  template <typename Handlers, typename Caller, typename Request, typename Response,
            typename... Prepaid>
  void Call(Handlers& handlers,
            absl::Status (Handlers::*handler)(Caller, const Request&, Response&, Prepaid&...),
            Choices& choices);
  void Allocate(Choices& choices);
  void FinishOldest();
  void Finish(Growing call);
  size_t PickProcess(Choices& choices);
  void DieOneStep(size_t process);
  void Spawn(size_t process);
  void PassTime(Choices& choices);

  bool Lives(const server::ProcessKey& key) const;
  bool Owns(size_t process, server::SessionId session) const;
  void CheckStatus(const absl::Status& status) const;
  // Records the ids that a successful call returned to its caller.
  template <typename Request, typename Response>
  void Note(size_t, const Request&, const Response&) {}
  void Note(size_t caller, const v1::OpenSessionRequest&, const v1::OpenSessionResponse& response);
  void Note(size_t caller, const v1::AllocateRequest& request,
            const v1::AllocateResponse& response);
  void Note(size_t caller, const v1::AllocateBatchRequest& request,
            const v1::AllocateBatchResponse& response);
  void Note(size_t caller, const v1::RequestRegionFdRequest& request,
            const v1::RequestRegionFdResponse& response);
  void Note(size_t caller, const v1::PublishSegmentRequest&,
            const v1::PublishSegmentResponse& response);
  void Note(size_t caller, const v1::AttachSegmentRequest&,
            const v1::AttachSegmentResponse& response);
  void Note(size_t caller, const v1::ListAllocationsRequest&,
            const v1::ListAllocationsResponse& response);
  void NoteToken(size_t caller, server::SessionId session, const v1::Token& token);
  void CheckAllocations() const;
  void CheckBooks();

  SimulatedDevice& simulated_;
  ManualClock clock_;
  server::Health health_;
  server::DeviceHeap heap_;
  server::LeaseJournal journal_;
  const std::shared_ptr<server::Quarantine> quarantine_;
  server::Fence fence_;
  server::LeaseRegistry registry_;
  server::TicketTable tickets_;
  server::OverdueWatch overdue_;
  std::unique_ptr<server::Reaper> reaper_;  // never started: Step does the work of its threads
  const server::RecoveryReport recovery_;
  server::Stats stats_;
  server::HttpEndpoint http_{"off", {}, clock_};
  server::ConnectionTable connections_;
  server::AllocatorHandlers allocator_;
  server::SegmentHandlers segments_;
  server::StatsHandlers statistics_;
  server::AdminHandlers admin_;
  std::array<Process, 4> processes_;
  std::array<KnownIds, 4> known_;
  std::deque<Growing> in_progress_;
  pid_t next_pid_;
};

}  // namespace tenure::testing

#endif  // TESTS_FUZZ_REQUEST_WORLD_H_
