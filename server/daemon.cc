#include "server/daemon.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <spdlog/spdlog.h>

#include "common/cuda/mps.h"
#include "common/socket_path.h"
#include "common/version.h"
#include "server/leases/journal_opening.h"
#include "server/transport/socket_gate.h"

namespace tenure::server {
namespace {

// Few calls wait for the driver at once, and the driver works on one at a time anyway.
constexpr int kDriverThreads = 4;
constexpr int kFirstHttpPort = 9450;
// Our largest request, and answer, describe a segment of 8192 tensors of at most 400 bytes.
constexpr int kMaxReceiveBytes = 4 << 20;
constexpr int kMaxSendBytes = 4 << 20;
constexpr int kMaxStreamsPerConnection = 64;
constexpr size_t kGrpcMemory = size_t{256} << 20;
constexpr absl::Duration kDrainTime = absl::Seconds(5);
// More than this a table of sockets need not hold.
constexpr rlim_t kMostDescriptors = 1 << 20;

std::string DriverWord(const cuda::Driver& driver) {
  return driver.emulated() ? "emulated" : "cuda";
}

// Every connection is an open file, so the daemon takes as many as it is allowed. Returns how many.
int RaiseDescriptorLimit() {
  rlimit limit = {};
  TENURE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlim_t wanted = std::min(limit.rlim_max, kMostDescriptors);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    TENURE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  }
  return static_cast<int>(std::min(limit.rlim_cur, kMostDescriptors));
}

// Regions by descriptor may take as many as the supervisor keeps, and leave most to connections.
uint64_t MaxVmmRegions(const FdStore* surviving) {
  const auto most = static_cast<uint64_t>(RaiseDescriptorLimit()) / 4;
  return surviving != nullptr ? std::min<uint64_t>(surviving->max(), most) : most;
}

std::shared_ptr<ConnectionTable> MakeConnectionTable(const Config& config,
                                                     const FdStore* surviving) {
  // Of the process, like the table itself.
  static const SystemClock clock;
  ConnectionTable::Options options;
  options.descriptors = RaiseDescriptorLimit() - static_cast<int>(MaxVmmRegions(surviving));
  options.max_tenant_connections = config.max_tenant_connections;
  options.tenant_requests_per_second = static_cast<double>(config.max_tenant_requests);
  options.on_cut = [](const Connection& connection, const absl::Status& why) {
    // Who is cut may come again at once, and the log is not theirs to fill.
    static TokenBucket lines(/*per_second=*/1, /*burst=*/20);
    if (!lines.Take(clock.Now())) return;
    const Connection::Caller& caller = connection.caller();
    spdlog::warn("cut a connection of process {}: {}", caller.ok() ? (*caller)->pid() : 0,
                 std::string(why.message()));
  };
  return std::make_shared<ConnectionTable>(clock, std::move(options));
}

std::unique_ptr<grpc::Server> BuildServer(grpc::Service& allocator, grpc::Service& stats,
                                          grpc::Service& admin) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.RegisterService(&allocator);
  builder.RegisterService(&stats);
  builder.RegisterService(&admin);
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  builder.SetMaxSendMessageSize(kMaxSendBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.SetResourceQuota(grpc::ResourceQuota("tenured").Resize(kGrpcMemory));
  return builder.BuildAndStart();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config,
                                                      const cuda::Driver& driver,
                                                      const cuda::DeviceIdentity& device,
                                                      FdStore& store) {
  const absl::StatusOr<Sizes> sizes = ResolveSizes(config, device.total);
  if (!sizes.ok()) return sizes.status();
  std::unique_ptr<Daemon> daemon(new Daemon(store));
  // The socket first: it is refused without cost, a context takes a fifth of a second and half a
  // gigabyte.
  if (absl::Status opened = daemon->OpenListeners(config, device.ordinal); !opened.ok()) {
    return opened;
  }
  absl::StatusOr<std::unique_ptr<cuda::Device>> opened = cuda::Device::Open(driver, device.uuid);
  if (!opened.ok()) return opened.status();
  daemon->device_ = *std::move(opened);
  daemon->OpenProcessList(config, driver);
  absl::StatusOr<OpenedJournal> journal = OpenJournal(JournalPath(daemon->listener_->path()),
                                                      device.uuid, daemon->surviving_ != nullptr);
  if (!journal.ok()) return journal.status();
  daemon->journal_ = std::move(journal->journal);
  daemon->BuildCore(config, *sizes, journal->epoch);
  if (absl::Status restored = daemon->Recover(journal->before); !restored.ok()) return restored;
  if (absl::Status started = daemon->StartServices(config, driver, *sizes); !started.ok())
    return started;
  return daemon;
}

void Daemon::BuildCore(const Config& config, const Sizes& sizes, Epoch epoch) {
  const bool strict = config.isolation == "strict";
  DeviceHeap::Options heap;
  heap.epoch = epoch;
  heap.warm_reserve = sizes.warm_reserve;
  heap.warm_limit = sizes.warm_limit;
  heap.tenant_limit = sizes.tenant_limit;
  heap.reserve_kind = strict ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
  heap.max_vmm_regions = MaxVmmRegions(surviving_);
  heap.store = surviving_;
  heap_ = std::make_unique<DeviceHeap>(*device_, health_, heap);
  lease_journal_ = std::make_unique<LeaseJournal>(journal_.get(), health_);
  quarantine_ =
      Quarantine::Create(*heap_, clock_, *lease_journal_,
                         [this](const QuarantineInfo& reclaimed) { NoteReclaimed(reclaimed); });
  fence_ = std::make_unique<Fence>(*quarantine_, processes_.get());
  LeaseRegistry::Options registry;
  registry.epoch = epoch;
  registry.lease_ttl = config.lease_ttl;
  registry.max_sessions = config.max_sessions;
  registry.max_tenant_sessions = config.max_tenant_sessions;
  registry.max_pool_block = sizes.max_pool_block;
  if (!strict) {
    registry.on_second_tenant = [](Tenant tenant) {
      spdlog::warn(
          "{} is the second user with a session. Under --isolation tenant any user of the device "
          "can open the handles of any other: it keeps accidents apart, not attacks. Users who do "
          "not trust each other need --isolation strict",
          tenant.ToString());
    };
  }
  registry_ =
      std::make_unique<LeaseRegistry>(*heap_, *quarantine_, *lease_journal_, clock_, registry);
  tickets_ = std::make_unique<TicketTable>(clock_);
  fd_exchange_ = std::make_unique<FdExchange>(*tickets_, *registry_);
}

absl::Status Daemon::Recover(const JournalState& before) {
  recovered_ = Restore(before, store_, *heap_, *registry_, *lease_journal_);
  if (recovered_.previous_epoch != 0) spdlog::info("restored: {}", recovered_.ToString());
  return health_.Check();
}

absl::Status Daemon::OpenListeners(const Config& config, int ordinal) {
  absl::StatusOr<AllowList> allowed = AllowList::Make(config.allow_users, config.allow_groups);
  if (!allowed.ok()) return allowed.status();
  connections_ = MakeConnectionTable(config, surviving_);
  InstallSocketGate(connections_);
  Listener::Options options;
  options.path = config.socket.empty() ? ListenPath(ordinal) : config.socket;
  options.allowed = *std::move(allowed);
  Listener::Options fd_options = options;
  fd_options.path = FdSocketPath(options.path);
  options.on_look = [this] { connections_->CutStuck(); };
  absl::StatusOr<std::unique_ptr<Listener>> listener =
      Listener::Bind(*connections_, clock_, std::move(options));
  if (!listener.ok()) return listener.status();
  listener_ = *std::move(listener);
  absl::StatusOr<std::unique_ptr<Listener>> fd_listener =
      Listener::Bind(*connections_, clock_, std::move(fd_options));
  if (!fd_listener.ok()) return fd_listener.status();
  fd_listener_ = *std::move(fd_listener);
  return absl::OkStatus();
}

void Daemon::OpenProcessList(const Config& config, const cuda::Driver& driver) {
  // The list would name the MPS server instead of its clients.
  if (config.allow_mps && cuda::FindMps()) return;
  absl::StatusOr<std::unique_ptr<cuda::ProcessList>> list =
      cuda::ProcessList::Open(cuda::ProcessListLibraryFor(driver), device_->uuid());
  if (!list.ok()) return;
  // In a PID namespace the driver may list other numbers than ours, or none; then the list proves
  // nothing.
  const absl::StatusOr<std::vector<pid_t>> pids = (*list)->ComputeProcesses();
  if (pids.ok() && std::find(pids->begin(), pids->end(), getpid()) != pids->end())
    processes_ = *std::move(list);
}

absl::Status Daemon::StartReaper(const Config& config) {
  OverdueWatch::Options options;
  options.kill_hung = config.hung_client == "kill";
  options.grace = config.hung_grace;
  options.is_connected = [this](const ProcessKey& process) {
    return connections_->IsConnected(process);
  };
  options.on_kill = [](const Lease& lease, const absl::Status& outcome) {
    spdlog::warn("process {} of {} has been silent for too long and is killed: {}",
                 lease.peer()->pid(), lease.peer()->tenant().ToString(), outcome.ToString());
  };
  overdue_ = std::make_unique<OverdueWatch>(*registry_, processes_.get(), std::move(options));
  absl::StatusOr<std::unique_ptr<Reaper>> reaper =
      Reaper::Create(*registry_, *fence_, *overdue_, *heap_);
  if (!reaper.ok()) return reaper.status();
  reaper_ = *std::move(reaper);
  for (const std::shared_ptr<const Peer>& peer : recovered_.living) {
    if (absl::Status watched = reaper_->Watch(peer); !watched.ok()) return watched;
  }
  for (const ProcessKey& process : recovered_.dead) registry_->Reclaim(process);
  // The reserve is complete before the first client comes; but those of a life before wait already,
  // and beside their kernels each clearing waits for the GPU's turn. For them it comes meanwhile.
  while (recovered_.sessions == 0 && heap_->MaintainOnce()) {
  }
  if (absl::Status healthy = health_.Check(); !healthy.ok()) return healthy;
  reaper_->Start();
  return absl::OkStatus();
}

absl::Status Daemon::StartServices(const Config& config, const cuda::Driver& driver,
                                   const Sizes& sizes) {
  stats_ = std::make_unique<Stats>(*heap_, *registry_, store_, recovered_);
  metrics_ = std::make_unique<Metrics>(*stats_, device_->ordinal(), device_->uuid(), kVersion);
  if (config.http != "off") {
    const std::string address =
        config.http.empty() ? absl::StrCat("127.0.0.1:", kFirstHttpPort + device_->ordinal())
                            : config.http;
    absl::StatusOr<std::unique_ptr<HttpServer>> http =
        HttpServer::Start(address, [metrics = metrics_.get()] { return metrics->Text(); });
    if (!http.ok()) return http.status();
    http_ = *std::move(http);
  }
  if (absl::Status reaping = StartReaper(config); !reaping.ok()) return reaping;
  executor_ = std::make_unique<Executor>(kDriverThreads);
  BuildServices(config, driver, sizes);
  grpc_ = BuildServer(*allocator_service_, *stats_service_, *admin_service_);
  if (grpc_ == nullptr)
    return absl::InternalError("gRPC cannot start a server; the log above says why");
  grpc_->GetHealthCheckService()->SetServingStatus(true);
  listener_->Start([this](Listener::Arrival arrival) {
    connections_->Enter(arrival.socket.get(), std::move(arrival.caller), std::move(arrival.ticket));
    grpc::AddInsecureChannelFromFd(grpc_.get(), arrival.socket.Release());
  });
  fd_listener_->Start([this](Listener::Arrival arrival) {
    fd_exchange_->Answer(std::move(arrival.socket), arrival.caller);
  });
  return absl::OkStatus();
}

void Daemon::BuildServices(const Config& config, const cuda::Driver& driver, const Sizes& sizes) {
  allocator_service_ = std::make_unique<AllocatorService>(
      AllocatorService::Parts{*connections_, health_, *metrics_, *executor_},
      AllocatorHandlers({*registry_, *reaper_, *tickets_, device_->total(), device_->uuid(),
                         DriverWord(driver), sizes.max_pool_block,
                         config.isolation == "strict" ? Isolation::kStrict : Isolation::kTenant,
                         survives()}),
      SegmentHandlers(*registry_));
  stats_service_ = std::make_unique<StatsService>(
      *connections_, StatsHandlers({*connections_, *registry_, *quarantine_, *stats_, health_,
                                    clock_, device_->uuid(), device_->name(), DriverWord(driver),
                                    absl::StrCat(driver.version())}));
  admin_service_ = std::make_unique<AdminService>(
      *connections_, *executor_, AdminHandlers({*registry_, *heap_, [this] { Drain(); }}));
}

void Daemon::Drain() {
  if (draining_.exchange(true)) return;
  spdlog::info("draining: nothing new is granted; ends with the last session");
  registry_->Drain();
  grpc_->GetHealthCheckService()->SetServingStatus(false);
}

bool Daemon::drained() const {
  if (!draining_) return false;
  const LeaseTotals totals = registry_->totals();
  return totals.active_sessions + totals.suspended_sessions == 0 && !fence_->waiting();
}

void Daemon::NoteReclaimed(const QuarantineInfo& reclaimed) {
  const Lease& lease = *reclaimed.lease;
  const BootTime exit = lease.entered(LeaseState::kOrphaned);
  const absl::Duration quarantined = lease.entered(LeaseState::kQuarantined) - exit;
  if (lease.state() != LeaseState::kScrubbed) {
    spdlog::info("process {} of {} is gone: {} in {} regions went back to the driver",
                 lease.peer()->pid(), lease.peer()->tenant().ToString(),
                 FormatBytes(reclaimed.bytes), reclaimed.regions);
    return;
  }
  const absl::Duration proven = lease.entered(LeaseState::kFenced) - exit;
  const absl::Duration cleared = lease.entered(LeaseState::kScrubbed) - exit;
  metrics_->Reclaimed(quarantined, proven, cleared - proven);
  spdlog::info(
      "process {} of {} is gone: {} in {} regions are back; quarantined after {:.2f} ms, proven "
      "silent after {:.1f} ms, cleared {:.2f} ms later",
      lease.peer()->pid(), lease.peer()->tenant().ToString(), FormatBytes(reclaimed.bytes),
      reclaimed.regions, absl::ToDoubleMilliseconds(quarantined),
      absl::ToDoubleMilliseconds(proven), absl::ToDoubleMilliseconds(cleared - proven));
}

void Daemon::Tend() {
  WatchSupervisor();
  if (journal_ == nullptr || !journal_->ShouldCompact()) return;
  if (absl::Status folded = journal_->Compact(); !folded.ok()) {
    spdlog::warn("the journal was not folded: {}", std::string(folded.message()));
  }
}

void Daemon::WatchSupervisor() {
  if (!survives() || supervisor_lost_) return;
  const absl::Status hears = store_.CheckSupervisor();
  if (hears.ok()) return;
  supervisor_lost_ = true;
  spdlog::error(
      "{}: nothing of kind VMM_FD is granted any more, and what there is ends with this process. "
      "Start the daemon anew, under a supervisor, when its clients can do without it",
      std::string(hears.message()));
}

void Daemon::StopServing() {
  grpc_->GetHealthCheckService()->SetServingStatus(false);
  // A socket adopted after the shutdown would never be closed.
  listener_->Stop();
  fd_listener_->Stop();
  health_.Fail(absl::UnavailableError("the daemon is draining; repeat the call when it is back"));
  allocator_service_->WaitUntilIdle(kDrainTime);
}

void Daemon::Leave(int exit_code) {
  StopServing();
  // Not by destruction, which would give all memory back.
  _exit(exit_code);
}

Daemon::~Daemon() {
  http_.reset();
  if (grpc_ != nullptr) {
    StopServing();
    // gRPC's own way to drain waits for clients to hang up, which idle ones do not.
    grpc_->Shutdown(std::chrono::system_clock::now());
    grpc_->Wait();
  }
  listener_.reset();
  fd_listener_.reset();
  executor_.reset();
  if (reaper_ != nullptr) reaper_->Stop();
  if (registry_ != nullptr) registry_->CloseAll();
}

}  // namespace tenure::server
