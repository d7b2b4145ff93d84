// The daemon's parts, wired.
#ifndef SERVER_DAEMON_H_
#define SERVER_DAEMON_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include <grpcpp/server.h>

#include "common/clock.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/process_list.h"
#include "server/background/overdue_watch.h"
#include "server/background/reaper.h"
#include "server/calls/admin_service.h"
#include "server/calls/allocator_service.h"
#include "server/calls/executor.h"
#include "server/calls/fd_exchange.h"
#include "server/calls/stats_service.h"
#include "server/calls/ticket_table.h"
#include "server/config.h"
#include "server/journal/journal.h"
#include "server/journal/journal_state.h"
#include "server/keeper/fd_store.h"
#include "server/leases/fence.h"
#include "server/leases/lease_journal.h"
#include "server/leases/lease_registry.h"
#include "server/leases/quarantine.h"
#include "server/leases/recovery.h"
#include "server/memory/device_heap.h"
#include "server/memory/health.h"
#include "server/report/http.h"
#include "server/report/metrics.h"
#include "server/report/stats.h"
#include "server/transport/connection_table.h"
#include "server/transport/listener.h"

namespace tenure::server {

// Everything that serves one device, in the order in which it is built; it ends in the opposite
// order, so that nothing outlives what it borrows, and the last to go is the driver's context, with
// no region left.
//
// Thread safety: thread-confined.
class Daemon {
 public:
  // `driver` and `store` outlive the daemon, `device` names one of the driver's devices. Restores
  // what an earlier life left, and serves when it returns.
  // Errors: as the parts; DATA_LOSS: the journal of an earlier life is damaged.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const Config& config,
                                                       const cuda::Driver& driver,
                                                       const cuda::DeviceIdentity& device,
                                                       FdStore& store);
  // Drains: takes no new connection, finishes calls under way, ends all sessions, gives all memory
  // back.
  ~Daemon();

  Health& health() { return health_; }
  // Whether leases and segments of kind VMM_FD outlive this process.
  bool survives() const { return surviving_ != nullptr; }
  // Ends this process and nothing else: answers the calls under way, and leaves leases and segments
  // to the next life.
  [[noreturn]] void Leave(int exit_code);
  // What nobody waits for; to be called every now and then.
  void Tend();
  // Whether it was told to drain and nobody holds anything any more.
  bool drained() const;
  const std::string& socket_path() const { return listener_->path(); }
  // -1 when off.
  int http_port() const { return http_ == nullptr ? -1 : http_->port(); }
  bool has_process_list() const { return processes_ != nullptr; }
  Books books() const { return heap_->books(); }

 private:
  explicit Daemon(FdStore& store)
      : store_(store), surviving_(store.available() ? &store : nullptr) {}

  void BuildCore(const Config& config, const Sizes& sizes, Epoch epoch);
  absl::Status Recover(const JournalState& before);
  // No new calls; waits for those under way.
  void StopServing();
  absl::Status OpenListeners(const Config& config, int ordinal);
  void OpenProcessList(const Config& config, const cuda::Driver& driver);
  absl::Status StartReaper(const Config& config);
  absl::Status StartServices(const Config& config, const cuda::Driver& driver, const Sizes& sizes);
  void BuildServices(const Config& config, const cuda::Driver& driver, const Sizes& sizes);

  void NoteReclaimed(const QuarantineInfo& reclaimed);
  void Drain();
  // Says once that nobody keeps what is to outlive this process.
  void WatchSupervisor();

  FdStore& store_;
  // The store, if there is a supervisor that keeps descriptors beyond this process. Null: nothing
  // outlives this process. The heap and the journal get it from here.
  FdStore* const surviving_;
  // Outlives the daemon, as the socket gate does; so it must not borrow anything of it.
  std::shared_ptr<ConnectionTable> connections_;
  SystemClock clock_;
  Health health_;
  std::unique_ptr<cuda::Device> device_;
  // Null where the driver's list cannot be had or does not name this process.
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
  RecoveryReport recovered_;
  std::unique_ptr<Stats> stats_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<OverdueWatch> overdue_;
  std::unique_ptr<Reaper> reaper_;
  std::unique_ptr<Executor> executor_;
  std::atomic<bool> draining_ = false;
  std::unique_ptr<AllocatorService> allocator_service_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<StatsService> stats_service_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Listener> fd_listener_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace tenure::server

#endif  // SERVER_DAEMON_H_
