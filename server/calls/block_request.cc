#include "server/calls/block_request.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace tenure::server {
namespace {

// The alignment that cudaMalloc guarantees: code written for it may rely on that.
constexpr Bytes kMinAlignment = Bytes(256);

absl::StatusOr<Placement> ParsePlacement(const v1::AllocateRequest& request) {
  switch (request.placement()) {
    case v1::PLACEMENT_UNSPECIFIED:
      return Placement::kAutomatic;
    case v1::PLACEMENT_POOL:
      return Placement::kPool;
    case v1::PLACEMENT_DIRECT:
      return Placement::kDirect;
    default:
      // Protobuf passes on numbers that the enum does not name.
      return absl::InvalidArgumentError(absl::StrCat("placement ",
                                                     static_cast<int>(request.placement()),
                                                     " is unknown; use PLACEMENT_POOL, "
                                                     "PLACEMENT_DIRECT or leave it out"));
  }
}

absl::StatusOr<MemoryKind> ParseKind(v1::MemoryKind kind, Isolation isolation) {
  switch (kind) {
    case v1::MEMORY_KIND_UNSPECIFIED:
      return isolation == Isolation::kStrict ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
    case v1::MEMORY_KIND_VMM_FD:
      return MemoryKind::kVmmFd;
    case v1::MEMORY_KIND_CUDA_IPC:
      if (isolation == Isolation::kTenant) return MemoryKind::kCudaIpc;
      return absl::InvalidArgumentError(
          "memory_kind CUDA_IPC is not granted under --isolation strict, because any user of the "
          "device could open its handles; use MEMORY_KIND_VMM_FD or leave it out");
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "memory_kind ", static_cast<int>(kind),
          " is unknown; use MEMORY_KIND_CUDA_IPC, MEMORY_KIND_VMM_FD or leave it out"));
  }
}

}  // namespace

absl::Status CheckRequestId(uint64_t request_id) {
  if (request_id != 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "request_id is 0; make one, so that a repeated request takes effect once");
}

absl::StatusOr<BlockRequest> ParseBlockRequest(const v1::AllocateRequest& request,
                                               Bytes device_total, Isolation isolation) {
  TENURE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (request.size_bytes() == 0)
    return absl::InvalidArgumentError("size_bytes is 0; ask for at least 1 byte");
  // Not INVALID_ARGUMENT: the same request may be right on a larger device.
  if (request.size_bytes() > device_total.value()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("size_bytes ", request.size_bytes(), " is more than the device has in all, ",
                     device_total.value(), " bytes (", FormatBytes(device_total), ")"));
  }
  const uint64_t alignment = request.alignment_bytes();
  if (alignment != 0 && (!IsPowerOfTwo(alignment) || alignment > kRegionUnit.value())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "alignment_bytes ", alignment, " is not a power of two up to 2 MiB; leave it out for 256"));
  }
  TENURE_ASSIGN_OR_RETURN(const MemoryKind kind, ParseKind(request.memory_kind(), isolation));
  TENURE_ASSIGN_OR_RETURN(const Placement placement, ParsePlacement(request));
  // Alignment 0 means "not given". A smaller one than 256 costs nothing more when raised to it.
  return BlockRequest{Bytes(request.size_bytes()), std::max(Bytes(alignment), kMinAlignment),
                      placement, kind};
}

}  // namespace tenure::server
