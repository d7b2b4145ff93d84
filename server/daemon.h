// Builds the daemon's parts, connects them, and ends them in the right order.
#ifndef SERVER_DAEMON_H_
#define SERVER_DAEMON_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "common/clock.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/process_list.h"
#include "server/background/heap_upkeep.h"
#include "server/background/overdue_watch.h"
#include "server/background/reaper.h"
#include "server/calls/admin_service.h"
#include "server/calls/allocator_service.h"
#include "server/calls/executor.h"
#include "server/calls/fd_exchange.h"
#include "server/calls/grpc_server.h"
#include "server/calls/stats_service.h"
#include "server/calls/ticket_table.h"
#include "server/config.h"
#include "server/descriptor_limit.h"
#include "server/instance_lock.h"
#include "server/journal/journal.h"
#include "server/journal/journal_state.h"
#include "server/keeper/fd_store.h"
#include "server/leases/fence.h"
#include "server/leases/kept_memory.h"
#include "server/leases/lease_journal.h"
#include "server/leases/lease_registry.h"
#include "server/leases/quarantine.h"
#include "server/leases/recovery.h"
#include "server/memory/device_heap.h"
#include "server/memory/health.h"
#include "server/report/http_endpoint.h"
#include "server/report/metrics.h"
#include "server/report/quarantine_watch.h"
#include "server/report/stats.h"
#include "server/report/supervisor_report.h"
#include "server/transport/connection_table.h"
#include "server/transport/listener.h"

namespace tenure::server {

// Everything that serves one device. The members are declared in the order in which they are built
// and end in the opposite order, so that each part ends before those that it borrows. The driver's
// context ends last, with no region left.
//
// Owns: all parts and their threads, the sockets, and the device's memory.
// Borrows: the driver and the descriptor store.
// Thread safety: thread-confined; Drain runs on gRPC's threads.
class Daemon {
 public:
  // Restores the leases and segments of an earlier life of the daemon, and serves when it returns.
  // REQUIRES: `driver` and `store` outlive the daemon; `device` is one of the driver's devices.
  // A start that fails gives nothing up that an earlier life has left.
  // Errors: as the parts; DATA_LOSS: the journal of an earlier life is damaged. INTERNAL: memory of
  // an earlier life could not be imported. With a supervisor, the caller must then end the process
  // by _exit(2): parts of the daemon may run.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config,
                                                       const cuda::Driver& driver,
                                                       const cuda::DeviceIdentity& device,
                                                       FdStore& store, const DeviceClaim& claim);
  // Takes no new connection, finishes the calls in progress, ends all sessions, and frees all
  // memory.
  ~Daemon();

  Health& health() { return health_; }
  // Whether leases and segments of kind VMM_FD outlive this process.
  bool survives() const { return surviving_ != nullptr; }
  // Tells the supervisor from now on that the daemon is well.
  void StartSupervisorReport();
  // Refuses new calls and answers those in progress, before the process ends without the
  // destructor: leases and segments are left to the next life of the daemon. If there will be no
  // next life, because the supervisor ends with this process, sockets and journal are removed.
  // REQUIRES: survives().
  void StopForRestart(bool last_life);
  // Checks the supervisor, compacts the journal when it has grown, and tries to serve the metrics
  // if their address was taken. The main thread calls this a few times a second, so that no call
  // waits for it.
  void Maintain();
  // Whether an operator has asked to drain, and no session and nothing in quarantine is left.
  bool drained() const;
  const std::string& socket_path() const { return listener_->path(); }
  bool has_process_list() const { return processes_ != nullptr; }
  Books books() const { return heap_->books(); }

 private:
  explicit Daemon(FdStore& store)
      : store_(store),
        surviving_(store.available() ? &store : nullptr),
        descriptors_(ShareDescriptors(surviving_)) {}

  void BuildCore(const Config& config, const Sizes& sizes, Epoch epoch);
  // The part of the start that follows once the earlier life is known.
  absl::Status Serve(const Config& config, const cuda::Driver& driver, const Sizes& sizes,
                     const JournalState& before, KeptMemory kept);
  absl::Status RestoreEarlierLife(const JournalState& before, KeptMemory kept);
  absl::Status OpenListeners(const Config& config, int ordinal);
  void OpenProcessList(const Config& config, const cuda::Driver& driver);
  void StartReporting(const Config& config);
  absl::Status StartBackground(const Config& config);
  absl::Status StartServices(const Config& config, const cuda::Driver& driver, const Sizes& sizes);
  // The last step: from here on clients come.
  void StartListeners();

  void Drain();
  // Logs, once, that the supervisor which keeps the descriptors is lost.
  void CheckSupervisor();
  // Refuses new calls, and waits for those in progress.
  void StopServing();
  // Of the sockets and the journal. REQUIRES: after StopServing.
  void RemoveFiles();

  FdStore& store_;
  // The store, when a supervisor keeps its descriptors beyond this process. Null: nothing outlives
  // this process. The heap and the journal get the answer from here.
  FdStore* const surviving_;
  const DescriptorShares descriptors_;
  // Outlives the daemon, as the socket gate does, so it must borrow nothing of the daemon.
  std::shared_ptr<ConnectionTable> connections_;
  SystemClock clock_;
  Health health_;
  std::unique_ptr<cuda::Device> device_;
  // Null: the driver's list cannot be read or does not name this process.
  std::unique_ptr<cuda::ProcessList> processes_;
  // Null exactly when surviving_ is.
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<LeaseJournal> lease_journal_;
  bool supervisor_lost_ = false;
  std::unique_ptr<DeviceHeap> heap_;
  std::shared_ptr<Quarantine> quarantine_;
  std::unique_ptr<Fence> fence_;
  std::unique_ptr<LeaseRegistry> registry_;
  std::unique_ptr<TicketTable> tickets_;
  std::unique_ptr<FdExchange> fd_exchange_;
  RecoveryReport recovery_;
  std::unique_ptr<Stats> stats_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<OverdueWatch> overdue_;
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<HeapUpkeep> upkeep_;
  std::unique_ptr<Executor> executor_;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<AllocatorService> allocator_service_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<StatsService> stats_service_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Listener> fd_listener_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpEndpoint> http_;
  std::unique_ptr<SupervisorReport> supervisor_report_;
  std::unique_ptr<QuarantineWatch> quarantine_watch_;
};

}  // namespace tenure::server

#endif  // SERVER_DAEMON_H_
