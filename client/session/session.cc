#include "client/session/session.h"

#include <errno.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/fork_guard.h"
#include "client/session/region_mapping.h"
#include "common/check.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/socket_path.h"

namespace tenure {
namespace {

constexpr absl::Duration kCloseTimeout = absl::Seconds(1);
// What one AllocateBatch may ask for; the daemon's limit.
constexpr size_t kMaxBatch = 1024;

v1::Placement ToWire(Placement placement) {
  switch (placement) {
    case Placement::kDefault:
      return v1::PLACEMENT_UNSPECIFIED;
    case Placement::kPool:
      return v1::PLACEMENT_POOL;
    case Placement::kDirect:
      return v1::PLACEMENT_DIRECT;
  }
  return v1::PLACEMENT_UNSPECIFIED;
}

v1::MemoryKind ToWire(MemoryKind kind) {
  return kind == MemoryKind::kVmmFd ? v1::MEMORY_KIND_VMM_FD : v1::MEMORY_KIND_CUDA_IPC;
}

absl::StatusOr<std::unique_ptr<cuda::Driver>> LoadDriver(const std::string& wanted,
                                                         const std::string& told) {
  const absl::StatusOr<std::string> path =
      wanted.empty() ? cuda::ResolveClientDriver(told) : cuda::ResolveDriver(wanted);
  if (!path.ok()) return path.status();
  return cuda::Driver::Load(*path);
}

}  // namespace

Session::Session(std::unique_ptr<SessionStub> connection, const ConnectOptions& options,
                 std::string socket)
    : stub_(std::move(connection)),
      memory_kind_(options.memory_kind),
      socket_(std::move(socket)),
      on_restart_(options.on_restart) {}

absl::StatusOr<std::shared_ptr<Session>> Session::Open(const ConnectOptions& options) {
  const std::string socket = options.socket.empty() ? ConnectPath() : options.socket;
  const std::string name = options.name.empty() ? program_invocation_short_name : options.name;
  absl::StatusOr<std::unique_ptr<SessionStub>> connection =
      SessionStub::Open({.socket = socket,
                         .name = name,
                         .call_timeout = options.call_timeout,
                         .restart_window = options.restart_window});
  if (!connection.ok()) return connection.status();
  // A forked child leaks what it inherited: gRPC's and CUDA's destructors would wait for threads
  // that it does not have.
  const auto end = [](Session* session) {
    if (!session->stub_->InForkedChild()) delete session;
  };
  std::shared_ptr<Session> session(new Session(*std::move(connection), options, socket), end);
  if (options.map) {
    const absl::Status opened = session->OpenDevice(options);
    if (!opened.ok()) return opened;
  }
  session->upkeep_ =
      std::make_unique<Upkeep>(*session->stub_, session->regions_.get(), options.on_lost,
                               [raw = session.get()] { raw->NoteRestart(); });
  session->WatchDaemon();
  return session;
}

// After the session was opened: if another daemon has taken the place of ours meanwhile, a
// keep-alive tells. The other way round, the end of a daemon before ours would be taken for it.
void Session::WatchDaemon() {
  absl::MutexLock lock(&watch_mutex_);
  if (closing_) return;
  daemon_watch_ = DaemonWatch::Start(socket_, [connection = stub_.get(), upkeep = upkeep_.get()] {
    connection->NoteDaemonEnded();
    upkeep->Nudge();
  });
}

void Session::NoteRestart() {
  ++restarts_;
  const uint64_t lost_blocks = ipc_blocks_.exchange(0);
  WatchDaemon();
  if (on_restart_) on_restart_(lost_blocks);
}

absl::Status Session::OpenDevice(const ConnectOptions& options) {
  const v1::OpenSessionResponse& told = stub_->session();
  absl::StatusOr<std::unique_ptr<cuda::Driver>> driver = LoadDriver(options.driver, told.driver());
  if (!driver.ok()) return driver.status();
  absl::StatusOr<std::unique_ptr<cuda::Device>> device =
      cuda::Device::Open(**driver, told.device_uuid());
  if (!device.ok()) return device.status();
  LetGoOfDeviceFilesInChildren();
  driver_ = *std::move(driver);
  device_ = *std::move(device);
  regions_ = std::make_unique<RegionCache>(*device_);
  segment_regions_ = std::make_unique<RegionCache>(*device_);
  return absl::OkStatus();
}

Session::~Session() {
  stub_->Interrupt();
  std::unique_ptr<DaemonWatch> watch;
  {
    absl::MutexLock lock(&watch_mutex_);
    closing_ = true;
    watch = std::move(daemon_watch_);
  }
  // It speaks to the upkeep, so it goes first.
  watch.reset();
  upkeep_.reset();
  regions_.reset();
  segment_regions_.reset();
  if (stub_->Usable().ok()) stub_->Close(kCloseTimeout).IgnoreError();
}

MemoryKind Session::DefaultKind() const {
  if (memory_kind_) return *memory_kind_;
  return stub_->session().default_memory_kind() == v1::MEMORY_KIND_VMM_FD ? MemoryKind::kVmmFd
                                                                          : MemoryKind::kCudaIpc;
}

v1::AllocateRequest Session::RequestFor(Bytes size, const AllocateOptions& options) const {
  const MemoryKind kind = options.memory_kind.value_or(DefaultKind());
  if (kind == MemoryKind::kVmmFd) stub_->ExpectSurvival();
  v1::AllocateRequest request;
  request.set_size_bytes(size.value());
  request.set_alignment_bytes(options.alignment.value());
  request.set_placement(ToWire(options.placement));
  request.set_memory_kind(ToWire(kind));
  return request;
}

template <typename Ask>
auto Session::WithRoomOfQueuedFrees(const Ask& ask) -> decltype(ask()) {
  const bool freeing = upkeep_->HasQueuedFrees();
  auto answer = ask();
  if (answer.ok() || !freeing || !absl::IsResourceExhausted(answer.status())) return answer;
  if (!Flush().ok()) return answer;
  return ask();
}

absl::StatusOr<Grant> Session::Allocate(Bytes size, const AllocateOptions& options) {
  const absl::StatusOr<v1::Token> token =
      WithRoomOfQueuedFrees([&] { return stub_->Allocate(RequestFor(size, options)); });
  if (!token.ok()) return Heed(token.status());
  return Accept(*token);
}

absl::StatusOr<std::vector<Grant>> Session::AllocateBatch(absl::Span<const Bytes> sizes) {
  if (sizes.size() > kMaxBatch) {
    return absl::InvalidArgumentError(absl::StrCat("allocate ", sizes.size(),
                                                   " blocks at once: at most ", kMaxBatch,
                                                   " are possible; ask in several batches"));
  }
  std::vector<Grant> grants;
  if (sizes.empty()) return grants;
  v1::AllocateBatchRequest request;
  for (const Bytes size : sizes) *request.add_requests() = RequestFor(size, {});
  const absl::StatusOr<std::vector<v1::Token>> tokens =
      WithRoomOfQueuedFrees([&] { return stub_->AllocateBatch(request); });
  if (!tokens.ok()) return Heed(tokens.status());
  absl::Status failure;
  for (const v1::Token& token : *tokens) {
    const absl::StatusOr<Grant> grant = Accept(token);
    failure.Update(grant.status());
    if (grant.ok()) grants.push_back(*grant);
  }
  if (failure.ok()) return grants;
  for (const Grant& grant : grants) Discard(grant);
  return failure;
}

absl::StatusOr<cuda::DevicePointer> Session::Map(const v1::Token& token) {
  const uint64_t region_size = token.region_size_bytes();
  if (token.size_bytes() > region_size || token.offset_bytes() > region_size - token.size_bytes()) {
    return absl::InternalError("the daemon granted a block that reaches beyond its region");
  }
  RegionSource source;
  source.kind = token.memory_kind();
  source.size = Bytes(region_size);
  source.ipc_handle = token.ipc_handle();
  source.ask.set_allocation_id(token.allocation_id());
  const absl::StatusOr<cuda::DevicePointer> base = regions_->Use(
      token.region_id(), [&] { return MapRegion(*device_, *stub_, source); },
      Deadline::After(stub_->call_timeout()));
  if (!base.ok()) return base.status();
  return *base + token.offset_bytes();
}

absl::StatusOr<Grant> Session::Accept(const v1::Token& token) {
  Grant grant;
  grant.allocation_id = token.allocation_id();
  grant.region_id = token.region_id();
  grant.size = Bytes(token.size_bytes());
  grant.region_size = Bytes(token.region_size_bytes());
  // Only a direct block fills its region: the pools' regions hold several of their largest blocks.
  grant.own_region = token.size_bytes() == token.region_size_bytes();
  grant.kind =
      token.memory_kind() == v1::MEMORY_KIND_VMM_FD ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
  grant.restarts = restarts_;
  if (grant.kind == MemoryKind::kCudaIpc) ++ipc_blocks_;
  if (!maps()) return grant;
  const absl::StatusOr<cuda::DevicePointer> pointer = Map(token);
  if (!pointer.ok()) {
    // Never mapped for this block; yet another block's mapping of a pool's region may live.
    upkeep_->QueueFree(FreeRequestFor(grant.allocation_id, /*unmapped=*/grant.own_region));
    return pointer.status();
  }
  grant.pointer = *pointer;
  return grant;
}

bool Session::Unuse(const Grant& grant) {
  if (grant.kind == MemoryKind::kCudaIpc && grant.restarts == restarts_) --ipc_blocks_;
  if (!maps()) return true;
  return regions_->Drop(grant.region_id, grant.own_region ? RegionCache::WhenEmpty::kUnmap
                                                          : RegionCache::WhenEmpty::kKeep);
}

v1::FreeRequest Session::FreeRequestFor(uint64_t allocation_id, bool unmapped) {
  v1::FreeRequest request;
  request.set_request_id(stub_->NextRequestId());
  request.set_allocation_id(allocation_id);
  request.set_unmapped(unmapped);
  return request;
}

absl::Status Session::Release(const Grant& grant) {
  if (stub_->InForkedChild()) return stub_->Usable();
  const v1::FreeRequest request = FreeRequestFor(grant.allocation_id, Unuse(grant));
  const absl::StatusOr<v1::FreeResponse> response = stub_->Free(request);
  if (response.ok()) {
    upkeep_->QueueIdle(response->idle_region_ids());
    return absl::OkStatus();
  }
  // Whether it took effect is unknown; repeating it until there is an answer leaks nothing.
  if (IsTransient(response.status())) upkeep_->QueueFree(request);
  return Heed(response.status());
}

void Session::Discard(const Grant& grant) {
  if (stub_->InForkedChild()) return;
  upkeep_->QueueFree(FreeRequestFor(grant.allocation_id, Unuse(grant)));
}

absl::Status Session::Heed(const absl::Status& status) {
  if (absl::IsNotFound(status) || absl::IsAborted(status)) upkeep_->Nudge();
  return status;
}

absl::Status Session::Flush() {
  const absl::Status usable = stub_->Usable();
  if (!usable.ok()) return usable;
  return upkeep_->Flush(Deadline::After(stub_->call_timeout()));
}

}  // namespace tenure
