#include "server/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

#include "common/cuda/mps.h"
#include "common/socket_path.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "server/descriptor_limit.h"
#include "server/leases/journal_opening.h"
#include "server/leases/kept_memory.h"
#include "server/report/event_log.h"
#include "server/transport/socket_gate.h"

namespace tenure::server {
namespace {

// Few calls wait for the driver at the same time, and the driver works on one at a time anyway.
constexpr int kDriverThreads = 4;
// How long the calls in progress may take once the daemon stops.
constexpr absl::Duration kDrainTime = absl::Seconds(5);

// The name of the driver in messages of tenure.v1.
std::string DriverName(const cuda::Driver& driver) {
  return driver.emulated() ? "emulated" : "cuda";
}

bool IsStrict(const Config& config) { return config.isolation == "strict"; }

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config,
                                                      const cuda::Driver& driver,
                                                      const cuda::DeviceIdentity& device,
                                                      FdStore& store, const DeviceClaim& claim) {
  TENURE_ASSIGN_OR_RETURN(const Sizes sizes, ResolveSizes(config, device.total));
  std::unique_ptr<Daemon> daemon(new Daemon(store));
  // The sockets come first: when another process has them, this fails at no cost. A context takes
  // 0.2 s and half a gigabyte.
  TENURE_RETURN_IF_ERROR(daemon->OpenListeners(config, device.ordinal));
  TENURE_ASSIGN_OR_RETURN(daemon->device_, cuda::Device::Open(driver, device.uuid));
  daemon->OpenProcessList(config, driver);
  const std::string journal = JournalPath(daemon->listener_->path());
  TENURE_ASSIGN_OR_RETURN(const EarlierLife before,
                          daemon->survives() ? ReadEarlierLife(journal, device.uuid,
                                                               {store.size(), store.keeps_claim()})
                                             : BeginWithoutJournal(journal));
  TENURE_ASSIGN_OR_RETURN(KeptMemory kept,
                          KeptMemory::Import(*daemon->device_, before.state, store));
  // Nothing has been changed up to here that a next start would miss.
  if (daemon->survives()) {
    // Before the first memory: what is kept is safe only together with the claim.
    if (absl::Status claimed = claim.Keep(store); !claimed.ok()) {
      spdlog::warn("the claim of the device ends with this process: {}",
                   std::string(claimed.message()));
    }
    TENURE_ASSIGN_OR_RETURN(daemon->journal_, ContinueJournal(journal, before));
  }
  daemon->BuildCore(config, sizes, before.next_epoch);
  const absl::Status serves = daemon->Serve(config, driver, sizes, before.state, std::move(kept));
  if (serves.ok()) return daemon;
  // Its destruction would end the sessions and free the memory of the earlier life. The caller ends
  // the process instead, as a crash would, and the next start finds everything.
  if (daemon->survives()) static_cast<void>(daemon.release());
  return serves;
}

absl::Status Daemon::Serve(const Config& config, const cuda::Driver& driver, const Sizes& sizes,
                           const JournalState& before, KeptMemory kept) {
  TENURE_RETURN_IF_ERROR(RestoreEarlierLife(before, std::move(kept)));
  StartReporting(config);
  TENURE_RETURN_IF_ERROR(StartBackground(config));
  TENURE_RETURN_IF_ERROR(StartServices(config, driver, sizes));
  StartListeners();
  return absl::OkStatus();
}

void Daemon::BuildCore(const Config& config, const Sizes& sizes, Epoch epoch) {
  DeviceHeap::Options heap;
  heap.epoch = epoch;
  heap.warm_reserve = sizes.warm_reserve;
  heap.warm_limit = sizes.warm_limit;
  heap.tenant_limit = sizes.tenant_limit;
  heap.reserve_kind = IsStrict(config) ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
  heap.max_vmm_regions = descriptors_.vmm_regions;
  heap.store = surviving_;
  heap_ = std::make_unique<DeviceHeap>(*device_, health_, heap);
  lease_journal_ = std::make_unique<LeaseJournal>(journal_.get(), health_);
  quarantine_ =
      Quarantine::Create(*heap_, clock_, *lease_journal_, [this](const QuarantineInfo& reclaimed) {
        metrics_->Reclaimed(*reclaimed.lease);
        LogReclaimed(reclaimed);
      });
  fence_ = std::make_unique<Fence>(*quarantine_, processes_.get());
  LeaseRegistry::Options registry;
  registry.epoch = epoch;
  registry.lease_ttl = config.lease_ttl;
  registry.max_sessions = config.max_sessions;
  registry.max_tenant_sessions = config.max_tenant_sessions;
  registry.max_pool_block = sizes.max_pool_block;
  if (!IsStrict(config)) registry.on_second_tenant = &LogSecondTenant;
  registry_ =
      std::make_unique<LeaseRegistry>(*heap_, *quarantine_, *lease_journal_, clock_, registry);
  tickets_ = std::make_unique<TicketTable>(clock_);
  fd_exchange_ = std::make_unique<FdExchange>(*tickets_, *registry_);
}

absl::Status Daemon::RestoreEarlierLife(const JournalState& before, KeptMemory kept) {
  TENURE_ASSIGN_OR_RETURN(
      recovery_, Restore(before, std::move(kept), store_, *heap_, *registry_, *lease_journal_));
  if (recovery_.previous_epoch != 0) spdlog::info("restored: {}", recovery_.ToString());
  return health_.Check();
}

absl::Status Daemon::OpenListeners(const Config& config, int ordinal) {
  // The gate and its table outlive the daemon, so the table's clock must, too.
  static const SystemClock clock;
  Listener::Options options;
  TENURE_ASSIGN_OR_RETURN(options.allowed,
                          AllowList::Make(config.allow_users, config.allow_groups));
  ConnectionTable::Options table;
  table.descriptors = descriptors_.all;
  table.max_descriptors = descriptors_.connections;
  table.max_tenant_connections = config.max_tenant_connections;
  table.tenant_requests_per_second = static_cast<double>(config.max_tenant_requests);
  table.on_cut = [](const Connection& connection, const absl::Status& why) {
    LogCutConnection(connection.caller().ok() ? (*connection.caller())->pid() : 0, why);
  };
  connections_ = std::make_shared<ConnectionTable>(clock, std::move(table));
  InstallSocketGate(connections_);
  options.on_turned_away = &LogTurnedAway;
  options.path = SocketPath(config, ordinal);
  Listener::Options fd_options = options;
  fd_options.path = FdSocketPath(options.path);
  // One of the two listeners looks after the connections that gRPC serves.
  options.on_tick = [this] { connections_->CutStuck(); };
  TENURE_ASSIGN_OR_RETURN(listener_, Listener::Bind(*connections_, clock_, std::move(options)));
  TENURE_ASSIGN_OR_RETURN(fd_listener_,
                          Listener::Bind(*connections_, clock_, std::move(fd_options)));
  return absl::OkStatus();
}

void Daemon::OpenProcessList(const Config& config, const cuda::Driver& driver) {
  // The list would name the MPS server instead of its clients.
  if (config.allow_mps && cuda::FindMps()) return;
  absl::StatusOr<std::unique_ptr<cuda::ProcessList>> list =
      cuda::ProcessList::Open(cuda::ProcessListLibraryFor(driver), device_->uuid());
  if (!list.ok()) return;
  // In a PID namespace the driver may list the host's numbers, or none. A list without this process
  // proves nothing about others.
  const absl::StatusOr<std::vector<pid_t>> pids = (*list)->ComputeProcesses();
  if (pids.ok() && std::find(pids->begin(), pids->end(), getpid()) != pids->end())
    processes_ = *std::move(list);
}

void Daemon::StartReporting(const Config& config) {
  stats_ = std::make_unique<Stats>(health_, *heap_, *registry_, surviving_, recovery_);
  metrics_ = std::make_unique<Metrics>(*stats_, device_->ordinal(), device_->uuid(), kVersion);
  quarantine_watch_ = std::make_unique<QuarantineWatch>(*quarantine_, clock_, &LogLongQuarantine);
  http_ = std::make_unique<HttpEndpoint>(
      HttpAddress(config, device_->ordinal()),
      HttpServer::Pages{.metrics = [this] { return metrics_->Text(); },
                        .health = [this] { return stats_->CheckServing(); }},
      clock_);
}

absl::Status Daemon::StartBackground(const Config& config) {
  OverdueWatch::Options options;
  options.kill_hung = config.hung_client == "kill";
  options.grace = config.hung_grace;
  options.is_connected = [this](const ProcessKey& process) {
    return connections_->IsConnected(process);
  };
  options.on_kill = &LogHungClientKilled;
  options.on_pause = &LogPause;
  overdue_ = std::make_unique<OverdueWatch>(*registry_, processes_.get(), std::move(options));
  TENURE_ASSIGN_OR_RETURN(reaper_, Reaper::Create(*registry_, *fence_, *overdue_));
  // Before the reaper starts: the sessions of an earlier life are in the registry, and their
  // processes may exit, or have exited, at any time.
  for (const std::shared_ptr<const Peer>& peer : recovery_.living)
    TENURE_RETURN_IF_ERROR(reaper_->Watch(peer));
  for (const ProcessKey& process : recovery_.dead) registry_->Reclaim(process);
  // The reserve is complete before the first client comes. After a recovery clients wait already,
  // and beside their kernels each clearing waits for its turn on the GPU: then the daemon serves
  // first, and the heap's upkeep fills the reserve.
  while (recovery_.sessions == 0 && heap_->MaintainOnce()) {
  }
  // The work above may have failed the device.
  TENURE_RETURN_IF_ERROR(health_.Check());
  upkeep_ = std::make_unique<HeapUpkeep>(*heap_);
  upkeep_->Start();
  reaper_->Start();
  return absl::OkStatus();
}

absl::Status Daemon::StartServices(const Config& config, const cuda::Driver& driver,
                                   const Sizes& sizes) {
  executor_ = std::make_unique<Executor>(kDriverThreads);
  allocator_service_ = std::make_unique<AllocatorService>(
      RpcDispatcher::Options{
          .connections = *connections_,
          .executor = *executor_,
          .health = &health_,
          .metrics = metrics_.get(),
      },
      AllocatorHandlers({*registry_, *reaper_, *tickets_, device_->total(), device_->uuid(),
                         DriverName(driver), sizes.max_pool_block,
                         IsStrict(config) ? Isolation::kStrict : Isolation::kTenant, survives()}),
      SegmentHandlers(*registry_));
  stats_service_ = std::make_unique<StatsService>(
      RpcDispatcher::Options{.connections = *connections_, .executor = *executor_},
      StatsHandlers({*connections_, *registry_, *quarantine_, *stats_, clock_, *http_,
                     device_->uuid(), device_->name(), DriverName(driver),
                     absl::StrCat(driver.version())}));
  admin_service_ = std::make_unique<AdminService>(
      RpcDispatcher::Options{.connections = *connections_,
                             .executor = *executor_,
                             .check_caller = &AdminHandlers::CheckOperator},
      AdminHandlers({*registry_, *heap_, [this] { Drain(); }}));
  TENURE_ASSIGN_OR_RETURN(grpc_, GrpcServer::Start({
                                     {v1::Allocator::service_full_name(), allocator_service_.get()},
                                     {v1::Stats::service_full_name(), stats_service_.get()},
                                     {v1::Admin::service_full_name(), admin_service_.get()},
                                 }));
  grpc_->SetServing(true);
  return absl::OkStatus();
}

void Daemon::StartListeners() {
  listener_->Start([this](Listener::Accepted accepted) {
    // Entered before gRPC has the socket: the first call on it may come at once.
    if (connections_->Add(accepted.socket.get(), std::move(accepted.caller),
                          std::move(accepted.permit)))
      grpc_->AddConnection(std::move(accepted.socket));
  });
  fd_listener_->Start([this](Listener::Accepted accepted) {
    fd_exchange_->Answer(std::move(accepted.socket), accepted.caller);
  });
}

void Daemon::StartSupervisorReport() {
  supervisor_report_ = std::make_unique<SupervisorReport>([this]() -> absl::StatusOr<std::string> {
    TENURE_ASSIGN_OR_RETURN(const DeviceHeap::Snapshot device, heap_->TakeSnapshot());
    const absl::Status serving = stats_->CheckServing();
    return absl::StrCat(
        serving.ok() ? "serving" : serving.message(), ": ", FormatBytes(device.books.leased),
        " leased, ", FormatBytes(device.books.warm), " warm, ",
        FormatBytes(device.books.quarantined), " quarantined of ", FormatBytes(device.total));
  });
}

void Daemon::Drain() {
  if (draining_.exchange(true)) return;
  spdlog::info("draining: grants nothing new, and exits when the last session has ended");
  registry_->Drain();
  grpc_->SetServing(false);
}

bool Daemon::drained() const {
  if (!draining_) return false;
  const LeaseTotals totals = registry_->totals();
  return totals.active_sessions + totals.suspended_sessions == 0 && !fence_->HasWaiting();
}

void Daemon::Maintain() {
  CheckSupervisor();
  http_->Maintain();
  quarantine_watch_->Maintain();
  if (journal_ == nullptr || !journal_->ShouldCompact()) return;
  if (absl::Status compacted = journal_->Compact(); !compacted.ok()) {
    spdlog::warn("the journal was not compacted: {}", std::string(compacted.message()));
  }
}

void Daemon::CheckSupervisor() {
  if (!survives() || supervisor_lost_) return;
  const absl::Status supervised = store_.CheckSupervisor();
  if (supervised.ok()) return;
  supervisor_lost_ = true;
  spdlog::error(
      "{}: no memory of kind VMM_FD is granted from now on, and the memory of that kind that "
      "exists "
      "ends with this process. Restart the daemon under a supervisor when its clients can do "
      "without "
      "it",
      std::string(supervised.message()));
}

void Daemon::StopServing() {
  grpc_->SetServing(false);
  // Before gRPC shuts down: it would never close a socket that it gets afterwards.
  listener_->Stop();
  fd_listener_->Stop();
  health_.Fail(absl::UnavailableError("the daemon is stopping; repeat the call when it is back"));
  allocator_service_->WaitUntilIdle(kDrainTime);
}

void Daemon::StopForRestart(bool last_life) {
  StopServing();
  if (last_life) RemoveFiles();
}

void Daemon::RemoveFiles() {
  std::error_code ignored;
  std::filesystem::remove(JournalPath(listener_->path()), ignored);
  listener_->RemoveFile();
  fd_listener_->RemoveFile();
}

Daemon::~Daemon() {
  // A scrape reads everything below, so it must end first.
  if (http_ != nullptr) http_->Stop();
  supervisor_report_.reset();
  if (grpc_ != nullptr) {
    StopServing();
    // No pointer is reset before this returns: a call in progress may still use any of them.
    grpc_->Shutdown();
  }
  listener_.reset();
  fd_listener_.reset();
  executor_.reset();
  // After the calls and before the registry: neither opens nor reclaims a session from here on.
  if (reaper_ != nullptr) reaper_->Stop();
  if (upkeep_ != nullptr) upkeep_->Stop();
  if (registry_ != nullptr) registry_->CloseAll();
}

}  // namespace tenure::server
