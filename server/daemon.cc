#include "server/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <spdlog/spdlog.h>

#include "common/socket_path.h"
#include "common/version.h"

namespace tenure::server {
namespace {

// Few calls wait for the driver at once, and the driver works on one at a time anyway.
constexpr int kDriverThreads = 4;
constexpr int kFirstHttpPort = 9450;
// Our largest request is a batch of 1024 allocations of at most 40 bytes; our largest answer is
// 1024 tokens.
constexpr int kMaxReceiveBytes = 128 << 10;
constexpr int kMaxSendBytes = 4 << 20;
constexpr int kMaxStreamsPerConnection = 64;
constexpr size_t kGrpcMemory = size_t{256} << 20;
constexpr absl::Duration kDrainTime = absl::Seconds(5);

// Ids of an earlier life must not be taken for ids of this one.
Epoch NewEpoch() {
  std::random_device random;
  return static_cast<Epoch>(std::uniform_int_distribution<unsigned>(1, 0xffff)(random));
}

std::string DriverWord(const cuda::Driver& driver) {
  return driver.emulated() ? "emulated" : "cuda";
}

std::unique_ptr<grpc::Server> BuildServer(grpc::Service& allocator, grpc::Service& stats) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  builder.RegisterService(&allocator);
  builder.RegisterService(&stats);
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  builder.SetMaxSendMessageSize(kMaxSendBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.SetResourceQuota(grpc::ResourceQuota("tenured").Resize(kGrpcMemory));
  return builder.BuildAndStart();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config,
                                                      const cuda::Driver& driver,
                                                      const cuda::DeviceIdentity& device) {
  const absl::StatusOr<Sizes> sizes = ResolveSizes(config, device.total);
  if (!sizes.ok()) return sizes.status();
  std::unique_ptr<Daemon> daemon(new Daemon());
  // The socket first: it is refused without cost, a context takes a fifth of a second and half a
  // gigabyte.
  const std::string socket = config.socket.empty() ? ListenPath(device.ordinal) : config.socket;
  absl::StatusOr<std::unique_ptr<Listener>> listener =
      Listener::Bind(daemon->connections_, daemon->clock_, Listener::Options{.path = socket});
  if (!listener.ok()) return listener.status();
  daemon->listener_ = *std::move(listener);

  absl::StatusOr<std::unique_ptr<cuda::Device>> opened = cuda::Device::Open(driver, device.uuid);
  if (!opened.ok()) return opened.status();
  daemon->device_ = *std::move(opened);
  daemon->OpenProcessList(driver);
  const Epoch epoch = NewEpoch();
  daemon->heap_ = std::make_unique<DeviceHeap>(
      *daemon->device_, daemon->health_,
      DeviceHeap::Options{epoch, sizes->warm_reserve, sizes->warm_limit});
  daemon->fence_ =
      std::make_unique<Fence>(*daemon->heap_, daemon->processes_.get(), daemon->clock_);
  daemon->registry_ = std::make_unique<LeaseRegistry>(
      *daemon->heap_, *daemon->fence_, daemon->clock_,
      LeaseRegistry::Options{epoch, config.lease_ttl, config.max_sessions, sizes->max_pool_block});
  if (absl::Status started = daemon->StartServices(config, driver, *sizes); !started.ok())
    return started;
  return daemon;
}

void Daemon::OpenProcessList(const cuda::Driver& driver) {
  absl::StatusOr<std::unique_ptr<cuda::ProcessList>> list =
      cuda::ProcessList::Open(cuda::ProcessListLibraryFor(driver), device_->uuid());
  if (!list.ok()) return;
  // In a PID namespace the driver may list other numbers than ours, or none; then the list proves
  // nothing.
  const absl::StatusOr<std::vector<pid_t>> pids = (*list)->ComputeProcesses();
  if (pids.ok() && std::find(pids->begin(), pids->end(), getpid()) != pids->end())
    processes_ = *std::move(list);
}

absl::Status Daemon::StartServices(const Config& config, const cuda::Driver& driver,
                                   const Sizes& sizes) {
  stats_ = std::make_unique<Stats>(*heap_, *registry_);
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
  absl::StatusOr<std::unique_ptr<Reaper>> reaper =
      Reaper::Create(*registry_, *fence_, *heap_,
                     [this](const QuarantineInfo& reclaimed) { NoteReclaimed(reclaimed); });
  if (!reaper.ok()) return reaper.status();
  reaper_ = *std::move(reaper);
  // The reserve is complete before the first client comes.
  while (heap_->MaintainOnce()) {
  }
  if (absl::Status healthy = health_.Check(); !healthy.ok()) return healthy;
  reaper_->Start();
  executor_ = std::make_unique<Executor>(kDriverThreads);
  allocator_service_ = std::make_unique<AllocatorService>(AllocatorService::Parts{
      connections_, *registry_, *reaper_, health_, *metrics_, *executor_, device_->total(),
      device_->uuid(), DriverWord(driver), sizes.max_pool_block});
  stats_service_ = std::make_unique<StatsService>(StatsService::Parts{
      connections_, *registry_, *fence_, *stats_, health_, clock_, device_->uuid(), device_->name(),
      DriverWord(driver), absl::StrCat(driver.version())});
  grpc_ = BuildServer(*allocator_service_, *stats_service_);
  if (grpc_ == nullptr)
    return absl::InternalError("gRPC cannot start a server; the log above says why");
  grpc_->GetHealthCheckService()->SetServingStatus(true);
  listener_->Start([server = grpc_.get()](UniqueFd socket) {
    grpc::AddInsecureChannelFromFd(server, socket.Release());
  });
  return absl::OkStatus();
}

void Daemon::NoteReclaimed(const QuarantineInfo& reclaimed) {
  metrics_->Reclaimed(reclaimed.age);
  spdlog::info("process {} of {} is gone: {} in {} regions are back after {:.1f} ms",
               reclaimed.session.peer->pid(), reclaimed.session.peer->tenant().ToString(),
               FormatBytes(reclaimed.bytes), reclaimed.regions,
               absl::ToDoubleMilliseconds(reclaimed.age));
}

Daemon::~Daemon() {
  http_.reset();
  if (grpc_ != nullptr) {
    grpc_->GetHealthCheckService()->SetServingStatus(false);
    // A socket adopted after the shutdown would never be closed.
    listener_->Stop();
    health_.Fail(absl::UnavailableError("the daemon is draining; repeat the call when it is back"));
    allocator_service_->WaitUntilIdle(kDrainTime);
    // gRPC's own way to drain waits for clients to hang up, which idle ones do not.
    grpc_->Shutdown(std::chrono::system_clock::now());
    grpc_->Wait();
  }
  listener_.reset();
  executor_.reset();
  if (reaper_ != nullptr) reaper_->Stop();
  if (registry_ != nullptr) registry_->CloseAll();
}

}  // namespace tenure::server
