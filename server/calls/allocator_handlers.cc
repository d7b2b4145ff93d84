#include "server/calls/allocator_handlers.h"

#include <algorithm>
#include <variant>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/status_macros.h"
#include "server/calls/wire.h"
#include "server/report/event_log.h"

namespace tenure::server {
namespace {

absl::Status CheckBatch(int size) {
  if (size >= 1 && static_cast<size_t>(size) <= kMaxBatch) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a batch has 1 to ", kMaxBatch, " requests; this one has ", size));
}

absl::Status CheckSessionName(const std::string& name) {
  // Protobuf refuses a string that is not UTF-8, so only control characters are left to refuse.
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) >= ' ' && c != 127;
  });
  if (name.size() <= kMaxSessionName && printable) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a session's name has at most ", kMaxSessionName, " printable bytes"));
}

}  // namespace

absl::Status AllocatorHandlers::OpenSession(const std::shared_ptr<const Peer>& caller,
                                            const v1::OpenSessionRequest& request,
                                            v1::OpenSessionResponse& response) {
  TENURE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  TENURE_RETURN_IF_ERROR(CheckSessionName(request.name()));
  // A process may write a request and exit before it is read. It must not open a session.
  if (caller->Exited()) return absl::NotFoundError("the calling process has exited");
  TENURE_ASSIGN_OR_RETURN(const SessionId session,
                          parts_.registry.Open(caller, request.request_id(), request.name()));
  // After Open: if the process exits between the two lines, Watch sees it at once, and the session
  // is there to be reclaimed. In the opposite order no thread would reclaim it.
  if (absl::Status watched = parts_.reaper.Watch(caller); !watched.ok()) {
    // A process whose exit no thread would see gets no memory.
    parts_.registry.Close(*caller, session).IgnoreError();
    return watched;
  }
  LogSessionOpened(*caller, session, request.name());
  response.set_session_id(session);
  response.set_epoch(parts_.registry.epoch());
  response.set_lease_ttl_ms(ToWireMilliseconds(parts_.registry.lease_ttl()));
  response.set_device_uuid(parts_.device_uuid);
  response.set_driver(parts_.driver);
  response.set_max_pool_block_bytes(parts_.max_pool_block.value());
  response.set_default_memory_kind(
      parts_.isolation == Isolation::kStrict ? v1::MEMORY_KIND_VMM_FD : v1::MEMORY_KIND_CUDA_IPC);
  response.set_survives_daemon(parts_.survives);
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::KeepAlive(const Peer& caller, const v1::KeepAliveRequest& request,
                                          v1::KeepAliveResponse& response, bool& prepaid) {
  response.set_lease_ttl_ms(ToWireMilliseconds(parts_.registry.lease_ttl()));
  response.set_epoch(parts_.registry.epoch());
  return parts_.registry.KeepAlive(caller, request.session_id(), &prepaid);
}

absl::Status AllocatorHandlers::CloseSession(const Peer& caller,
                                             const v1::CloseSessionRequest& request,
                                             v1::CloseSessionResponse&, bool& prepaid) {
  TENURE_RETURN_IF_ERROR(parts_.registry.Close(caller, request.session_id()));
  prepaid = true;
  LogSessionClosed(caller, request.session_id());
  return absl::OkStatus();
}

absl::StatusOr<std::optional<AllocatorHandlers::Growth>> AllocatorHandlers::Allocate(
    const Peer& caller, const v1::AllocateRequest& request, v1::AllocateResponse& response) {
  TENURE_ASSIGN_OR_RETURN(const BlockRequest wanted,
                          ParseBlockRequest(request, parts_.device_total, parts_.isolation));
  TENURE_ASSIGN_OR_RETURN(
      auto admitted, parts_.registry.Admit(caller, request.session_id(), request.request_id()));
  if (const Grant* granted = std::get_if<Grant>(&admitted)) {
    // A repeated request gets the answer of the first.
    *response.mutable_token() = ToWire(*granted);
    return std::nullopt;
  }
  auto& admission = std::get<LeaseRegistry::Admission>(admitted);
  // From here on no registry lock is held: the pool has its own, and the session may end meanwhile.
  // Then the commit fails, and the block returns to its pool when it is destroyed.
  absl::StatusOr<std::optional<Block>> warm = admission.pool().AllocateWarm(wanted);
  if (!warm.ok()) return Refuse(warm.status());
  if (!warm->has_value()) return Growth{std::move(admission), wanted};
  TENURE_RETURN_IF_ERROR(CommitOne(std::move(admission), **std::move(warm), response));
  return std::nullopt;
}

absl::Status AllocatorHandlers::Grow(Growth growth, v1::AllocateResponse& response) {
  absl::StatusOr<Block> block = growth.admission.pool().Allocate(growth.wanted);
  if (!block.ok()) return Refuse(block.status());
  return CommitOne(std::move(growth.admission), *std::move(block), response);
}

absl::Status AllocatorHandlers::CommitOne(LeaseRegistry::Admission admission, Block block,
                                          v1::AllocateResponse& response) {
  std::vector<LeaseRegistry::Pending> pending;
  pending.push_back({std::move(admission), std::move(block)});
  TENURE_ASSIGN_OR_RETURN(const std::vector<Grant> grants,
                          parts_.registry.Commit(std::move(pending)));
  *response.mutable_token() = ToWire(grants.front());
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::Refuse(absl::Status why) {
  if (absl::IsResourceExhausted(why)) parts_.registry.CountRefusal();
  return why;
}

absl::StatusOr<std::vector<BlockRequest>> AllocatorHandlers::ParseBatch(
    const v1::AllocateBatchRequest& request) const {
  TENURE_RETURN_IF_ERROR(CheckBatch(request.requests_size()));
  const SessionId session = request.requests(0).session_id();
  absl::flat_hash_set<uint64_t> request_ids;
  std::vector<BlockRequest> wanted;
  for (const v1::AllocateRequest& one : request.requests()) {
    TENURE_ASSIGN_OR_RETURN(const BlockRequest parsed,
                            ParseBlockRequest(one, parts_.device_total, parts_.isolation));
    if (one.session_id() != session || !request_ids.insert(one.request_id()).second) {
      return absl::InvalidArgumentError(
          "all requests of a batch name one session, and each has a request_id of its own");
    }
    wanted.push_back(parsed);
  }
  return wanted;
}

absl::Status AllocatorHandlers::AllocateBatch(const Peer& caller,
                                              const v1::AllocateBatchRequest& request,
                                              v1::AllocateBatchResponse& response) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<BlockRequest> wanted, ParseBatch(request));
  // All or nothing: an early return destroys `pending`, and with it every block and admission,
  // which roll themselves back.
  std::vector<LeaseRegistry::Pending> pending;
  std::vector<v1::Token> tokens(wanted.size());
  // For each element of `pending`, the index of its request. Repeated requests have no element.
  std::vector<size_t> indices;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const v1::AllocateRequest& one = request.requests(static_cast<int>(i));
    TENURE_ASSIGN_OR_RETURN(auto admitted,
                            parts_.registry.Admit(caller, one.session_id(), one.request_id()));
    if (const Grant* granted = std::get_if<Grant>(&admitted)) {
      tokens[i] = ToWire(*granted);
      continue;
    }
    auto& admission = std::get<LeaseRegistry::Admission>(admitted);
    absl::StatusOr<Block> block = admission.pool().Allocate(wanted[i]);
    if (!block.ok()) return Refuse(block.status());
    pending.push_back({std::move(admission), *std::move(block)});
    indices.push_back(i);
  }
  if (!pending.empty()) {
    TENURE_ASSIGN_OR_RETURN(const std::vector<Grant> grants,
                            parts_.registry.Commit(std::move(pending)));
    for (size_t i = 0; i < indices.size(); ++i) tokens[indices[i]] = ToWire(grants[i]);
  }
  for (v1::Token& token : tokens) *response.add_tokens() = std::move(token);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<RegionId>> AllocatorHandlers::FreeOne(const Peer& caller,
                                                                 const v1::FreeRequest& request,
                                                                 bool& prepaid) {
  TENURE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  return parts_.registry.Free(caller, request.session_id(), request.request_id(),
                              request.allocation_id(), request.unmapped(), &prepaid);
}

absl::Status AllocatorHandlers::Free(const Peer& caller, const v1::FreeRequest& request,
                                     v1::FreeResponse& response, bool& prepaid) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<RegionId> idle, FreeOne(caller, request, prepaid));
  response.mutable_idle_region_ids()->Add(idle.begin(), idle.end());
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::FreeBatch(const Peer& caller, const v1::FreeBatchRequest& request,
                                          v1::FreeBatchResponse& response, bool& prepaid) {
  TENURE_RETURN_IF_ERROR(CheckBatch(request.requests_size()));
  // Each free that succeeds lists all idle regions of the session, so the last list is the answer:
  // a region that was idle before may have been given out again.
  std::vector<RegionId> idle;
  prepaid = true;
  for (const v1::FreeRequest& one : request.requests()) {
    bool held = false;
    absl::StatusOr<std::vector<RegionId>> freed = FreeOne(caller, one, held);
    prepaid = prepaid && held;
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
  RegionName region;
  region.session = request.session_id();
  if (request.has_segment_block()) {
    region.holding =
        SegmentBlockName{request.segment_block().attachment_id(), request.segment_block().block()};
  } else {
    region.holding = request.allocation_id();
  }
  // Looked up here only so that this call reports a mistake. The descriptor that counts is looked
  // up when the ticket is redeemed, because the caller may lose the region in between.
  TENURE_RETURN_IF_ERROR(parts_.registry.Export(caller, region).status());
  TENURE_ASSIGN_OR_RETURN(std::string ticket, parts_.tickets.Issue(caller, region));
  response.set_ticket(std::move(ticket));
  return absl::OkStatus();
}

absl::Status AllocatorHandlers::ReleaseRegions(const Peer& caller,
                                               const v1::ReleaseRegionsRequest& request,
                                               v1::ReleaseRegionsResponse& response,
                                               bool& prepaid) {
  // Unlike the other batches, this one may be empty.
  if (request.region_ids_size() != 0) TENURE_RETURN_IF_ERROR(CheckBatch(request.region_ids_size()));
  const std::vector<RegionId> regions(request.region_ids().begin(), request.region_ids().end());
  TENURE_ASSIGN_OR_RETURN(const uint32_t released,
                          parts_.registry.ReleaseRegions(caller, request.session_id(), regions));
  response.set_released_regions(released);
  prepaid = released > 0;
  return absl::OkStatus();
}

}  // namespace tenure::server
