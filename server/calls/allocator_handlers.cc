#include "server/calls/allocator_handlers.h"

#include <algorithm>
#include <variant>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

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
  if (grant.kind == MemoryKind::kVmmFd) {
    token.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
    return token;
  }
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

uint64_t Milliseconds(absl::Duration duration) {
  return static_cast<uint64_t>(absl::ToInt64Milliseconds(duration));
}

}  // namespace

absl::Status AllocatorHandlers::OpenSession(const std::shared_ptr<const Peer>& caller,
                                            const v1::OpenSessionRequest& request,
                                            v1::OpenSessionResponse& response) {
  if (request.request_id() == 0) return absl::InvalidArgumentError("request_id is 0; make one");
  if (absl::Status name = CheckName(request.name()); !name.ok()) return name;
  // What a dead process left in its socket opens nothing.
  if (caller->Exited()) return absl::NotFoundError("the calling process has exited");
  const absl::StatusOr<SessionId> session =
      parts_.registry.Open(caller, request.request_id(), request.name());
  if (!session.ok()) return session.status();
  if (absl::Status watched = parts_.reaper.Watch(caller); !watched.ok()) {
    // A process whose death would go unseen gets no memory.
    parts_.registry.Close(*caller, *session).IgnoreError();
    return watched;
  }
  response.set_session_id(*session);
  response.set_epoch(parts_.registry.epoch());
  response.set_lease_ttl_ms(Milliseconds(parts_.registry.lease_ttl()));
  response.set_device_uuid(parts_.device_uuid);
  response.set_driver(parts_.driver);
  response.set_max_pool_block_bytes(parts_.max_pool_block.value());
  response.set_default_memory_kind(
      parts_.isolation == Isolation::kStrict ? v1::MEMORY_KIND_VMM_FD : v1::MEMORY_KIND_CUDA_IPC);
  response.set_survives_daemon(parts_.survives);
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::KeepAlive(const Peer& caller, const v1::KeepAliveRequest& request,
                                          v1::KeepAliveResponse& response) {
  response.set_lease_ttl_ms(Milliseconds(parts_.registry.lease_ttl()));
  response.set_epoch(parts_.registry.epoch());
  return parts_.registry.KeepAlive(caller, request.session_id());
}

absl::Status AllocatorHandlers::CloseSession(const Peer& caller,
                                             const v1::CloseSessionRequest& request,
                                             v1::CloseSessionResponse&) {
  return parts_.registry.Close(caller, request.session_id());
}

absl::StatusOr<std::optional<AllocatorHandlers::Growth>> AllocatorHandlers::Allocate(
    const Peer& caller, const v1::AllocateRequest& request, v1::AllocateResponse& response) {
  const absl::StatusOr<BlockRequest> wanted =
      ParseBlockRequest(request, parts_.device_total, parts_.isolation);
  if (!wanted.ok()) return wanted.status();
  auto admitted = parts_.registry.Admit(caller, request.session_id(), request.request_id());
  if (!admitted.ok()) return admitted.status();
  if (const Grant* before = std::get_if<Grant>(&*admitted)) {
    *response.mutable_token() = ToToken(*before);
    return std::nullopt;
  }
  LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
  absl::StatusOr<std::optional<Block>> warm = admission.pool().AllocateWarm(*wanted);
  if (!warm.ok()) return Refuse(warm.status());
  if (!warm->has_value()) return Growth{std::move(admission), *wanted};
  absl::Status attached = AttachOne(std::move(admission), **std::move(warm), response);
  if (!attached.ok()) return attached;
  return std::nullopt;
}

absl::Status AllocatorHandlers::Grow(Growth growth, v1::AllocateResponse& response) {
  absl::StatusOr<Block> block = growth.admission.pool().Allocate(growth.wanted);
  if (!block.ok()) return Refuse(block.status());
  return AttachOne(std::move(growth.admission), *std::move(block), response);
}

absl::Status AllocatorHandlers::AttachOne(LeaseRegistry::Admission admission, Block block,
                                          v1::AllocateResponse& response) {
  std::vector<LeaseRegistry::Pending> pending;
  pending.push_back({std::move(admission), std::move(block)});
  const absl::StatusOr<std::vector<Grant>> grants = parts_.registry.Commit(std::move(pending));
  if (!grants.ok()) return grants.status();
  *response.mutable_token() = ToToken(grants->front());
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::Refuse(absl::Status why) {
  if (absl::IsResourceExhausted(why)) parts_.registry.CountRefusal();
  return why;
}

absl::StatusOr<std::vector<BlockRequest>> AllocatorHandlers::ParseBatch(
    const v1::AllocateBatchRequest& request) const {
  if (absl::Status size = CheckBatch(request.requests_size()); !size.ok()) return size;
  const SessionId session = request.requests(0).session_id();
  absl::flat_hash_set<uint64_t> request_ids;
  std::vector<BlockRequest> wanted;
  for (const v1::AllocateRequest& one : request.requests()) {
    const absl::StatusOr<BlockRequest> parsed =
        ParseBlockRequest(one, parts_.device_total, parts_.isolation);
    if (!parsed.ok()) return parsed.status();
    if (one.session_id() != session || !request_ids.insert(one.request_id()).second) {
      return absl::InvalidArgumentError(
          "the requests of a batch are of one session, each with a request id of its own");
    }
    wanted.push_back(*parsed);
  }
  return wanted;
}

absl::Status AllocatorHandlers::AllocateBatch(const Peer& caller,
                                              const v1::AllocateBatchRequest& request,
                                              v1::AllocateBatchResponse& response) {
  const absl::StatusOr<std::vector<BlockRequest>> wanted = ParseBatch(request);
  if (!wanted.ok()) return wanted.status();
  // Blocks and admissions roll themselves back until all of them are there.
  std::vector<LeaseRegistry::Pending> pending;
  std::vector<v1::Token> tokens(wanted->size());
  std::vector<size_t> places;
  for (size_t i = 0; i < wanted->size(); ++i) {
    const v1::AllocateRequest& one = request.requests(static_cast<int>(i));
    auto admitted = parts_.registry.Admit(caller, one.session_id(), one.request_id());
    if (!admitted.ok()) return admitted.status();
    if (const Grant* before = std::get_if<Grant>(&*admitted)) {
      tokens[i] = ToToken(*before);
      continue;
    }
    LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
    absl::StatusOr<Block> block = admission.pool().Allocate((*wanted)[i]);
    if (!block.ok()) return Refuse(block.status());
    pending.push_back({std::move(admission), *std::move(block)});
    places.push_back(i);
  }
  if (!pending.empty()) {
    const absl::StatusOr<std::vector<Grant>> grants = parts_.registry.Commit(std::move(pending));
    if (!grants.ok()) return grants.status();
    for (size_t i = 0; i < places.size(); ++i) tokens[places[i]] = ToToken((*grants)[i]);
  }
  for (v1::Token& token : tokens) *response.add_tokens() = std::move(token);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RegionId>> AllocatorHandlers::FreeOne(const Peer& caller,
                                                                 const v1::FreeRequest& request) {
  if (request.request_id() == 0) return absl::InvalidArgumentError("request_id is 0; make one");
  return parts_.registry.Free(caller, request.session_id(), request.request_id(),
                              request.allocation_id(), request.unmapped());
}

absl::Status AllocatorHandlers::Free(const Peer& caller, const v1::FreeRequest& request,
                                     v1::FreeResponse& response) {
  const absl::StatusOr<std::vector<RegionId>> idle = FreeOne(caller, request);
  if (!idle.ok()) return idle.status();
  response.mutable_idle_region_ids()->Add(idle->begin(), idle->end());
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::FreeBatch(const Peer& caller, const v1::FreeBatchRequest& request,
                                          v1::FreeBatchResponse& response) {
  if (absl::Status size = CheckBatch(request.requests_size()); !size.ok()) return size;
  // What is idle after the last free is what counts.
  std::vector<RegionId> idle;
  for (const v1::FreeRequest& one : request.requests()) {
    absl::StatusOr<std::vector<RegionId>> freed = FreeOne(caller, one);
    v1::FreeBatchResponse::Outcome& outcome = *response.add_outcomes();
    outcome.set_code(static_cast<int>(freed.status().code()));
    outcome.set_message(std::string(freed.status().message()));
    if (freed.ok()) idle = *std::move(freed);
  }
  response.mutable_idle_region_ids()->Add(idle.begin(), idle.end());
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::RequestRegionFd(const Peer& caller,
                                                const v1::RequestRegionFdRequest& request,
                                                v1::RequestRegionFdResponse& response) {
  RegionClaim claim;
  claim.session = request.session_id();
  if (request.has_segment_block()) {
    claim.region =
        SegmentBlockName{request.segment_block().attachment_id(), request.segment_block().block()};
  } else {
    claim.region = request.allocation_id();
  }
  // Looked up now, so that a mistake is answered in this call, and again when the ticket is shown.
  if (absl::Status exists = parts_.registry.Export(caller, claim).status(); !exists.ok()) {
    return exists;
  }
  absl::StatusOr<std::string> ticket = parts_.tickets.Issue(caller, claim);
  if (!ticket.ok()) return ticket.status();
  response.set_ticket(*std::move(ticket));
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::ReleaseRegions(const Peer& caller,
                                               const v1::ReleaseRegionsRequest& request,
                                               v1::ReleaseRegionsResponse& response) {
  if (request.region_ids_size() > kMaxBatch) return CheckBatch(request.region_ids_size());
  const std::vector<RegionId> regions(request.region_ids().begin(), request.region_ids().end());
  const absl::StatusOr<uint32_t> released =
      parts_.registry.ReleaseRegions(caller, request.session_id(), regions);
  if (!released.ok()) return released.status();
  response.set_released_regions(*released);
  return absl::OkStatus();
}

}  // namespace tenure::server
