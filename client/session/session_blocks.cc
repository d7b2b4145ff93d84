// The part of Session that deals with blocks.
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/region_mapping.h"
#include "client/session/session.h"
#include "client/session/wire.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace tenure {

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
  // Whether the free took effect is unknown, or it was refused. Upkeep sends the same request, with
  // the same id, until the daemon has answered what became of the block, so that no case leaks.
  if (!IsGivenBack(response.status())) upkeep_->QueueFree(request);
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
