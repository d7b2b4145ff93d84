#include "server/allocator_service.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "server/block_request.h"
#include "server/rpc.h"

namespace tenure::server {
namespace {

constexpr int kMaxBatch = 1024;
constexpr size_t kMaxName = 64;

v1::Token ToToken(const Grant& grant) {
  v1::Token token;
  token.set_allocation_id(grant.allocation);
  token.set_region_id(grant.region);
  token.set_region_size_bytes(grant.region_size.value());
  token.set_offset_bytes(grant.offset.value());
  token.set_size_bytes(grant.size.value());
  token.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
  const absl::string_view handle = grant.handle.AsBytes();
  token.set_ipc_handle(handle.data(), handle.size());
  return token;
}

absl::Status CheckBatch(int size) {
  if (size >= 1 && size <= kMaxBatch) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a batch has 1 to ", kMaxBatch, " requests; this one has ", size));
}

absl::Status CheckName(const std::string& name) {
  // Protobuf has made sure that it is UTF-8.
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && c != 127;
  });
  if (name.size() <= kMaxName && printable) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a session's name has at most ", kMaxName, " printable bytes"));
}

}  // namespace

class AllocatorService::Call {
 public:
  Call(grpc::CallbackServerContext* context, AllocatorService& service, Metrics::Method method)
      : reactor_(context->DefaultReactor()),
        service_(service),
        method_(method),
        start_(absl::Now()) {
    service_.under_way_.fetch_add(1, std::memory_order_relaxed);
  }

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // The last thing done with the call: request and response may be gone afterwards.
  void Finish(const absl::Status& status) {
    service_.parts_.metrics.RpcDone(method_, absl::Now() - start_);
    reactor_->Finish(ToGrpc(status));
    service_.under_way_.fetch_sub(1, std::memory_order_release);
  }

 private:
  grpc::ServerUnaryReactor* reactor_;
  AllocatorService& service_;
  Metrics::Method method_;
  absl::Time start_;
};

void AllocatorService::WaitUntilIdle(absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (under_way_.load(std::memory_order_acquire) > 0 && absl::Now() < end)
    absl::SleepFor(absl::Milliseconds(1));
}

absl::StatusOr<AllocatorService::Peer> AllocatorService::Caller(
    const grpc::CallbackServerContext& context) const {
  if (absl::Status healthy = parts_.health.Check(); !healthy.ok()) return healthy;
  return parts_.connections.Find(context.peer());
}

grpc::ServerUnaryReactor* AllocatorService::OpenSession(grpc::CallbackServerContext* context,
                                                        const v1::OpenSessionRequest* request,
                                                        v1::OpenSessionResponse* response) {
  Call call(context, *this, Metrics::Method::kOther);
  call.Finish(DoOpenSession(*context, *request, *response));
  return call.reactor();
}

absl::Status AllocatorService::DoOpenSession(const grpc::CallbackServerContext& context,
                                             const v1::OpenSessionRequest& request,
                                             v1::OpenSessionResponse& response) {
  absl::StatusOr<Peer> caller = Caller(context);
  if (!caller.ok()) return caller.status();
  if (request.request_id() == 0) return absl::InvalidArgumentError("request_id is 0; make one");
  if (absl::Status name = CheckName(request.name()); !name.ok()) return name;
  // What a dead process left in its socket opens nothing.
  if ((*caller)->Exited()) return absl::NotFoundError("the calling process has exited");
  const absl::StatusOr<SessionId> session =
      parts_.registry.Open(*caller, request.request_id(), request.name());
  if (!session.ok()) return session.status();
  if (absl::Status watched = parts_.reaper.Watch(*caller); !watched.ok()) {
    // A process whose death would go unseen gets no memory.
    parts_.registry.Close(**caller, *session).IgnoreError();
    return watched;
  }
  response.set_session_id(*session);
  response.set_epoch(parts_.registry.epoch());
  response.set_lease_ttl_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(parts_.registry.lease_ttl())));
  response.set_device_uuid(parts_.device_uuid);
  response.set_driver(parts_.driver);
  response.set_max_pool_block_bytes(parts_.max_pool_block.value());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AllocatorService::KeepAlive(grpc::CallbackServerContext* context,
                                                      const v1::KeepAliveRequest* request,
                                                      v1::KeepAliveResponse* response) {
  Call call(context, *this, Metrics::Method::kOther);
  const absl::StatusOr<Peer> caller = Caller(*context);
  response->set_lease_ttl_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(parts_.registry.lease_ttl())));
  call.Finish(caller.ok() ? parts_.registry.KeepAlive(**caller, request->session_id())
                          : caller.status());
  return call.reactor();
}

grpc::ServerUnaryReactor* AllocatorService::CloseSession(grpc::CallbackServerContext* context,
                                                         const v1::CloseSessionRequest* request,
                                                         v1::CloseSessionResponse*) {
  Call call(context, *this, Metrics::Method::kOther);
  const absl::StatusOr<Peer> caller = Caller(*context);
  call.Finish(caller.ok() ? parts_.registry.Close(**caller, request->session_id())
                          : caller.status());
  return call.reactor();
}

grpc::ServerUnaryReactor* AllocatorService::Allocate(grpc::CallbackServerContext* context,
                                                     const v1::AllocateRequest* request,
                                                     v1::AllocateResponse* response) {
  Call call(context, *this, Metrics::Method::kAllocate);
  grpc::ServerUnaryReactor* reactor = call.reactor();
  const absl::StatusOr<Peer> caller = Caller(*context);
  if (caller.ok()) {
    DoAllocate(call, *caller, *request, *response);
  } else {
    call.Finish(caller.status());
  }
  return reactor;
}

void AllocatorService::DoAllocate(Call call, const Peer& caller, const v1::AllocateRequest& request,
                                  v1::AllocateResponse& response) {
  const absl::StatusOr<BlockRequest> wanted = ParseBlockRequest(request, parts_.device_total);
  if (!wanted.ok()) return call.Finish(wanted.status());
  auto admitted = parts_.registry.Admit(*caller, request.session_id(), request.request_id());
  if (!admitted.ok()) return call.Finish(admitted.status());
  if (const Grant* before = std::get_if<Grant>(&*admitted)) {
    *response.mutable_token() = ToToken(*before);
    return call.Finish(absl::OkStatus());
  }
  LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
  absl::StatusOr<std::optional<Block>> warm = admission.pool().AllocateWarm(*wanted);
  if (warm.ok() && !warm->has_value()) {
    parts_.executor.Run(
        [this, call, wanted = *wanted, &response, admission = std::move(admission)]() mutable {
          absl::StatusOr<Block> block = admission.pool().Allocate(wanted);
          absl::StatusOr<v1::Token> token = AttachOne(std::move(admission), std::move(block));
          if (token.ok()) *response.mutable_token() = *std::move(token);
          call.Finish(token.status());
        });
    return;
  }
  absl::StatusOr<Block> block =
      warm.ok() ? absl::StatusOr<Block>(**std::move(warm)) : warm.status();
  absl::StatusOr<v1::Token> token = AttachOne(std::move(admission), std::move(block));
  if (token.ok()) *response.mutable_token() = *std::move(token);
  call.Finish(token.status());
}

absl::StatusOr<v1::Token> AllocatorService::AttachOne(LeaseRegistry::Admission admission,
                                                      absl::StatusOr<Block> block) {
  if (!block.ok()) {
    if (absl::IsResourceExhausted(block.status())) parts_.registry.CountRefusal();
    return block.status();
  }
  std::vector<LeaseRegistry::Pending> pending;
  pending.push_back({std::move(admission), *std::move(block)});
  absl::StatusOr<std::vector<Grant>> grants = parts_.registry.Attach(std::move(pending));
  if (!grants.ok()) return grants.status();
  return ToToken(grants->front());
}

grpc::ServerUnaryReactor* AllocatorService::AllocateBatch(grpc::CallbackServerContext* context,
                                                          const v1::AllocateBatchRequest* request,
                                                          v1::AllocateBatchResponse* response) {
  Call call(context, *this, Metrics::Method::kAllocate);
  grpc::ServerUnaryReactor* reactor = call.reactor();
  const absl::StatusOr<Peer> caller = Caller(*context);
  if (!caller.ok()) {
    call.Finish(caller.status());
    return reactor;
  }
  parts_.executor.Run([this, call, caller = *caller, request, response]() mutable {
    call.Finish(DoAllocateBatch(*caller, *request, *response));
  });
  return reactor;
}

absl::Status AllocatorService::DoAllocateBatch(const server::Peer& caller,
                                               const v1::AllocateBatchRequest& request,
                                               v1::AllocateBatchResponse& response) {
  if (absl::Status size = CheckBatch(request.requests_size()); !size.ok()) return size;
  const SessionId session = request.requests(0).session_id();
  absl::flat_hash_set<uint64_t> request_ids;
  std::vector<BlockRequest> wanted;
  for (const v1::AllocateRequest& one : request.requests()) {
    const absl::StatusOr<BlockRequest> parsed = ParseBlockRequest(one, parts_.device_total);
    if (!parsed.ok()) return parsed.status();
    if (one.session_id() != session || !request_ids.insert(one.request_id()).second) {
      return absl::InvalidArgumentError(
          "the requests of a batch are of one session, each with a request id of its own");
    }
    wanted.push_back(*parsed);
  }
  // Blocks and admissions roll themselves back until all of them are there.
  std::vector<LeaseRegistry::Pending> pending;
  std::vector<v1::Token> tokens(wanted.size());
  std::vector<size_t> places;
  for (size_t i = 0; i < wanted.size(); ++i) {
    auto admitted =
        parts_.registry.Admit(caller, session, request.requests(static_cast<int>(i)).request_id());
    if (!admitted.ok()) return admitted.status();
    if (const Grant* before = std::get_if<Grant>(&*admitted)) {
      tokens[i] = ToToken(*before);
      continue;
    }
    LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
    absl::StatusOr<Block> block = admission.pool().Allocate(wanted[i]);
    if (!block.ok()) {
      if (absl::IsResourceExhausted(block.status())) parts_.registry.CountRefusal();
      return block.status();
    }
    pending.push_back({std::move(admission), *std::move(block)});
    places.push_back(i);
  }
  if (!pending.empty()) {
    const absl::StatusOr<std::vector<Grant>> grants = parts_.registry.Attach(std::move(pending));
    if (!grants.ok()) return grants.status();
    for (size_t i = 0; i < places.size(); ++i) tokens[places[i]] = ToToken((*grants)[i]);
  }
  for (v1::Token& token : tokens) *response.add_tokens() = std::move(token);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RegionId>> AllocatorService::DoFree(const server::Peer& caller,
                                                               const v1::FreeRequest& request) {
  if (request.request_id() == 0) return absl::InvalidArgumentError("request_id is 0; make one");
  return parts_.registry.Free(caller, request.session_id(), request.request_id(),
                              request.allocation_id(), request.unmapped());
}

grpc::ServerUnaryReactor* AllocatorService::Free(grpc::CallbackServerContext* context,
                                                 const v1::FreeRequest* request,
                                                 v1::FreeResponse* response) {
  Call call(context, *this, Metrics::Method::kFree);
  const absl::StatusOr<Peer> caller = Caller(*context);
  const absl::StatusOr<std::vector<RegionId>> idle =
      caller.ok() ? DoFree(**caller, *request) : caller.status();
  if (idle.ok()) response->mutable_idle_region_ids()->Add(idle->begin(), idle->end());
  call.Finish(idle.status());
  return call.reactor();
}

grpc::ServerUnaryReactor* AllocatorService::FreeBatch(grpc::CallbackServerContext* context,
                                                      const v1::FreeBatchRequest* request,
                                                      v1::FreeBatchResponse* response) {
  Call call(context, *this, Metrics::Method::kFree);
  const absl::StatusOr<Peer> caller = Caller(*context);
  absl::Status status = caller.ok() ? CheckBatch(request->requests_size()) : caller.status();
  if (status.ok()) {
    // What is idle after the last free is what counts.
    std::vector<RegionId> idle;
    for (const v1::FreeRequest& one : request->requests()) {
      absl::StatusOr<std::vector<RegionId>> freed = DoFree(**caller, one);
      v1::FreeBatchResponse::Outcome& outcome = *response->add_outcomes();
      outcome.set_code(static_cast<int>(freed.status().code()));
      outcome.set_message(std::string(freed.status().message()));
      if (freed.ok()) idle = *std::move(freed);
    }
    response->mutable_idle_region_ids()->Add(idle.begin(), idle.end());
  }
  call.Finish(status);
  return call.reactor();
}

grpc::ServerUnaryReactor* AllocatorService::ReleaseRegions(grpc::CallbackServerContext* context,
                                                           const v1::ReleaseRegionsRequest* request,
                                                           v1::ReleaseRegionsResponse* response) {
  Call call(context, *this, Metrics::Method::kOther);
  const absl::StatusOr<Peer> caller = Caller(*context);
  absl::Status status = caller.status();
  if (status.ok() && request->region_ids_size() > kMaxBatch)
    status = CheckBatch(request->region_ids_size());
  if (status.ok()) {
    const std::vector<RegionId> regions(request->region_ids().begin(), request->region_ids().end());
    const absl::StatusOr<uint32_t> released =
        parts_.registry.ReleaseRegions(**caller, request->session_id(), regions);
    if (released.ok()) response->set_released_regions(*released);
    status = released.status();
  }
  call.Finish(status);
  return call.reactor();
}

}  // namespace tenure::server
