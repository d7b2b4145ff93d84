#include "client/session/session.h"

#include <errno.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/fork_guard.h"
#include "client/session/region_mapping.h"
#include "client/session/wire.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/limits.h"
#include "common/socket_path.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

// A program's exit waits for this. If the daemon does not answer in time, it ends the session when
// the process ends.
constexpr absl::Duration kCloseTimeout = absl::Seconds(1);

// `of_daemon` is the driver that the daemon uses.
absl::StatusOr<std::unique_ptr<cuda::Driver>> LoadDriver(const std::string& wanted,
                                                         const std::string& of_daemon) {
  TENURE_ASSIGN_OR_RETURN(const std::string path, wanted.empty()
                                                      ? cuda::ResolveClientDriver(of_daemon)
                                                      : cuda::ResolveDriver(wanted));
  return cuda::Driver::Load(path);
}

}  // namespace

Session::Session(std::unique_ptr<SessionStub> stub, const ConnectOptions& options,
                 std::string socket)
    : stub_(std::move(stub)),
      memory_kind_(options.memory_kind),
      socket_(std::move(socket)),
      on_restart_(options.on_restart) {}

absl::StatusOr<std::shared_ptr<Session>> Session::Open(const ConnectOptions& options) {
  const std::string socket = options.socket.empty() ? ConnectPath() : options.socket;
  const std::string name = options.name.empty() ? program_invocation_short_name : options.name;
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<SessionStub> stub,
                          SessionStub::Open({.socket = socket,
                                             .name = name,
                                             .call_timeout = options.call_timeout,
                                             .restart_window = options.restart_window}));
  // A forked child leaks its copy of the session. The destructors of gRPC and CUDA would wait for
  // threads that exist in the parent only, and Upkeep's would join one.
  const auto end = [](Session* session) {
    if (!session->InForkedChild()) delete session;
  };
  std::shared_ptr<Session> session(new Session(std::move(stub), options, socket), end);
  if (options.map) TENURE_RETURN_IF_ERROR(session->OpenDevice(options));
  // The device and the caches must exist before the upkeep, which uses them on its own thread.
  session->upkeep_ =
      std::make_unique<Upkeep>(*session->stub_, session->regions_.get(), options.on_lost,
                               [raw = session.get()] { raw->OnRestart(); });
  session->WatchDaemon();
  return session;
}

absl::Status Session::OpenDevice(const ConnectOptions& options) {
  const v1::OpenSessionResponse& opened = stub_->session();
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Driver> driver,
                          LoadDriver(options.driver, opened.driver()));
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Device> device,
                          cuda::Device::Open(*driver, opened.device_uuid()));
  // From here on this process has device files open, which a forked child would keep open.
  ReleaseDeviceFilesInChildren();
  driver_ = std::move(driver);
  device_ = std::move(device);
  regions_ = std::make_unique<RegionCache>(*device_);
  segment_regions_ = std::make_unique<RegionCache>(*device_);
  return absl::OkStatus();
}

// REQUIRES: the session has been opened, or restored, before. If yet another daemon listens by now,
// the watch is on a daemon that does not know the session, and the next keep-alive finds that out.
// If the watch began before the session, it would report the exit of an earlier daemon, and a
// session that is alive would be marked as lost.
void Session::WatchDaemon() {
  absl::MutexLock lock(&watch_mutex_);
  // The destructor has removed the watch. A new one would outlive the upkeep, which it uses.
  if (closing_) return;
  daemon_watch_ = DaemonWatch::Start(socket_, [stub = stub_.get(), upkeep = upkeep_.get()] {
    stub->OnDaemonExit();
    upkeep->RenewNow();
  });
}

void Session::OnRestart() {
  // The daemon's memory of kind CUDA_IPC ended with its process. Blocks granted before carry an
  // older number of restarts, and are not counted again when they are freed.
  ++restarts_;
  const uint64_t lost_blocks = ipc_blocks_.exchange(0);
  // The old watch has reported the exit of the old process, and watches nothing any more.
  WatchDaemon();
  if (on_restart_) on_restart_(lost_blocks);
}

Session::~Session() {
  // Calls are cancelled first, so that the threads below do not wait for a daemon that does not
  // answer.
  stub_->CancelCalls();
  std::unique_ptr<DaemonWatch> watch;
  {
    absl::MutexLock lock(&watch_mutex_);
    closing_ = true;
    watch = std::move(daemon_watch_);
  }
  // Outside of the lock, because this joins the watch's thread. Before the upkeep is destroyed,
  // because that thread uses it.
  watch.reset();
  upkeep_.reset();
  // The upkeep is the only other user of the caches. All regions must be unmapped before Close:
  // with it the daemon may give them to others.
  regions_.reset();
  segment_regions_.reset();
  if (stub_->Usable().ok()) stub_->Close(kCloseTimeout).IgnoreError();
}

absl::Status Session::RenewIfUnknown(const absl::Status& answer) {
  if (absl::IsNotFound(answer) || absl::IsAborted(answer)) upkeep_->RenewNow();
  return answer;
}

MemoryKind Session::DefaultKind() const {
  if (memory_kind_) return *memory_kind_;
  return FromWire(stub_->session().default_memory_kind());
}

v1::AllocateRequest Session::RequestFor(Bytes size, const AllocateOptions& options) const {
  const MemoryKind kind = options.memory_kind.value_or(DefaultKind());
  // This is set before the request is sent: if the daemon ends while the answer is on its way, the
  // session may already have memory that survives.
  if (kind == MemoryKind::kVmmFd) stub_->ExpectSurvival();
  v1::AllocateRequest request;
  request.set_size_bytes(size.value());
  request.set_alignment_bytes(options.alignment.value());
  request.set_placement(ToWire(options.placement));
  request.set_memory_kind(ToWire(kind));
  return request;
}

template <typename Call>
auto Session::RetryAfterQueuedFrees(const Call& allocate) -> decltype(allocate()) {
  // This is asked before the call. A free that is answered during the call may have come too late
  // for it, and then a second call may succeed.
  const bool freeing = upkeep_->HasQueuedFrees();
  auto answer = allocate();
  if (answer.ok() || !freeing || !absl::IsResourceExhausted(answer.status())) return answer;
  if (!Flush().ok()) return answer;
  // The stub sends this as a new request with a new id.
  return allocate();
}

absl::StatusOr<LeasedBlock> Session::Allocate(Bytes size, const AllocateOptions& options) {
  const absl::StatusOr<v1::Token> token =
      RetryAfterQueuedFrees([&] { return stub_->Allocate(RequestFor(size, options)); });
  if (!token.ok()) return RenewIfUnknown(token.status());
  return MapGranted(*token, size);
}

absl::StatusOr<std::vector<LeasedBlock>> Session::AllocateBatch(absl::Span<const Bytes> sizes) {
  if (sizes.size() > kMaxBatch) {
    return absl::InvalidArgumentError(absl::StrCat("allocate ", sizes.size(),
                                                   " blocks at once: at most ", kMaxBatch,
                                                   " are possible; use several batches"));
  }
  std::vector<LeasedBlock> blocks;
  if (sizes.empty()) return blocks;
  v1::AllocateBatchRequest request;
  for (const Bytes size : sizes) *request.add_requests() = RequestFor(size, {});
  const absl::StatusOr<std::vector<v1::Token>> tokens =
      RetryAfterQueuedFrees([&] { return stub_->AllocateBatch(request); });
  if (!tokens.ok()) return RenewIfUnknown(tokens.status());
  // All tokens are visited, also after a failure: a token that is not mapped must be freed.
  absl::Status failure;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const absl::StatusOr<LeasedBlock> block = MapGranted((*tokens)[i], sizes[i]);
    failure.Update(block.status());
    if (block.ok()) blocks.push_back(*block);
  }
  if (failure.ok()) return blocks;
  for (const LeasedBlock& block : blocks) QueueFree(block);
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
  source.fd_request.set_allocation_id(token.allocation_id());
  TENURE_ASSIGN_OR_RETURN(
      const cuda::DevicePointer base,
      regions_->Acquire(
          token.region_id(), [&] { return MapRegion(*device_, *stub_, source); },
          Deadline::After(stub_->call_timeout())));
  return base + token.offset_bytes();
}

absl::StatusOr<LeasedBlock> Session::MapGranted(const v1::Token& token, Bytes requested) {
  LeasedBlock block;
  block.allocation_id = token.allocation_id();
  block.region_id = token.region_id();
  block.requested = requested;
  block.size = Bytes(token.size_bytes());
  block.region_size = Bytes(token.region_size_bytes());
  // Only a direct block fills its region: the pools' regions hold several of their largest blocks.
  block.fills_region = token.size_bytes() == token.region_size_bytes();
  block.kind = FromWire(token.memory_kind());
  block.restarts = restarts_;
  if (block.kind == MemoryKind::kCudaIpc) ++ipc_blocks_;
  if (!maps()) return block;
  const absl::StatusOr<cuda::DevicePointer> pointer = Map(token);
  if (!pointer.ok()) {
    // The region was not mapped for this block. If the block does not fill it, another block's
    // mapping of it may exist, and the daemon must not be told that the region is unmapped.
    upkeep_->QueueFree(FreeRequestFor(block.allocation_id, /*unmapped=*/block.fills_region));
    return pointer.status();
  }
  block.pointer = *pointer;
  return block;
}

void Session::CountIpcBlockGone(const LeasedBlock& block) {
  // Blocks from before a restart were counted out by OnRestart.
  if (block.kind == MemoryKind::kCudaIpc && block.restarts == restarts_) --ipc_blocks_;
}

bool Session::Unmap(const LeasedBlock& block) {
  CountIpcBlockGone(block);
  if (!maps()) return true;
  // A pool's region stays mapped without blocks, because the next small block lies there. Upkeep
  // unmaps it when the daemon calls it idle.
  return regions_->Release(block.region_id, block.fills_region ? RegionCache::WhenEmpty::kUnmap
                                                               : RegionCache::WhenEmpty::kKeep);
}

v1::FreeRequest Session::FreeRequestFor(uint64_t allocation_id, bool unmapped) {
  v1::FreeRequest request;
  request.set_request_id(stub_->NextRequestId());
  request.set_allocation_id(allocation_id);
  request.set_unmapped(unmapped);
  return request;
}

absl::Status Session::Free(const LeasedBlock& block) {
  if (InForkedChild()) return Usable();
  // The block is unmapped before the daemon is told: after that, the memory may be granted to
  // another session.
  const v1::FreeRequest request = FreeRequestFor(block.allocation_id, Unmap(block));
  const absl::StatusOr<v1::FreeResponse> response = stub_->Free(request);
  if (response.ok()) {
    upkeep_->QueueIdle(response->idle_region_ids());
    return absl::OkStatus();
  }
  // Whether the free took effect is unknown. Upkeep sends the same request, with the same id, until
  // it is answered, so that neither case leaks.
  if (IsTransient(response.status())) upkeep_->QueueFree(request);
  return RenewIfUnknown(response.status());
}

void Session::QueueFree(const LeasedBlock& block) {
  if (InForkedChild()) return;
  upkeep_->QueueFree(FreeRequestFor(block.allocation_id, Unmap(block)));
}

absl::Status Session::Flush() {
  TENURE_RETURN_IF_ERROR(Usable());
  return upkeep_->Flush(Deadline::After(stub_->call_timeout()));
}

}  // namespace tenure
