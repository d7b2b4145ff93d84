// The fields of an Allocate: every default, every limit and every refusal.

#include "server/calls/block_request.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

constexpr Bytes kDeviceTotal = GiB(1);

// A request with the fields that it must have, and no others.
v1::AllocateRequest Smallest() {
  v1::AllocateRequest request;
  request.set_request_id(1);
  request.set_size_bytes(1);
  return request;
}

absl::StatusOr<BlockRequest> Parse(const v1::AllocateRequest& request,
                                   Isolation isolation = Isolation::kTenant) {
  return ParseBlockRequest(request, kDeviceTotal, isolation);
}

TEST(BlockRequestTest, WhatIsLeftOutHasADefault) {
  const absl::StatusOr<BlockRequest> parsed = Parse(Smallest());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->size, Bytes(1));
  EXPECT_EQ(parsed->alignment, Bytes(256));
  EXPECT_EQ(parsed->placement, Placement::kAutomatic);
  EXPECT_EQ(parsed->kind, MemoryKind::kCudaIpc);
}

TEST(BlockRequestTest, UnderStrictIsolationTheDefaultKindIsByDescriptor) {
  const absl::StatusOr<BlockRequest> parsed = Parse(Smallest(), Isolation::kStrict);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->kind, MemoryKind::kVmmFd);
}

TEST(BlockRequestTest, WhatIsGivenIsKept) {
  v1::AllocateRequest request = Smallest();
  request.set_size_bytes(12'345);
  request.set_alignment_bytes(4096);
  request.set_placement(v1::PLACEMENT_DIRECT);
  request.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
  const absl::StatusOr<BlockRequest> direct = Parse(request);
  ASSERT_TRUE(direct.ok()) << direct.status();
  EXPECT_EQ(direct->size, Bytes(12'345));
  EXPECT_EQ(direct->alignment, Bytes(4096));
  EXPECT_EQ(direct->placement, Placement::kDirect);
  EXPECT_EQ(direct->kind, MemoryKind::kVmmFd);

  request.set_placement(v1::PLACEMENT_POOL);
  request.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
  const absl::StatusOr<BlockRequest> pool = Parse(request);
  ASSERT_TRUE(pool.ok()) << pool.status();
  EXPECT_EQ(pool->placement, Placement::kPool);
  EXPECT_EQ(pool->kind, MemoryKind::kCudaIpc);
}

TEST(BlockRequestTest, ARequestIdIsNeeded) {
  v1::AllocateRequest request = Smallest();
  request.set_request_id(0);
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(request).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckRequestId(0)));
  EXPECT_TRUE(CheckRequestId(std::numeric_limits<uint64_t>::max()).ok());
}

TEST(BlockRequestTest, ASizeIsFromOneByteToTheWholeDevice) {
  v1::AllocateRequest request = Smallest();
  request.set_size_bytes(0);
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(request).status()));
  request.set_size_bytes(kDeviceTotal.value());
  EXPECT_TRUE(Parse(request).ok());
  for (const uint64_t beyond : {kDeviceTotal.value() + 1, std::numeric_limits<uint64_t>::max()}) {
    request.set_size_bytes(beyond);
    EXPECT_TRUE(absl::IsResourceExhausted(Parse(request).status())) << beyond;
  }
}

TEST(BlockRequestTest, AnAlignmentIsAPowerOfTwoUpToTwoMebibytes) {
  v1::AllocateRequest request = Smallest();
  for (uint64_t alignment = 1; alignment <= MiB(2).value(); alignment *= 2) {
    request.set_alignment_bytes(alignment);
    const absl::StatusOr<BlockRequest> parsed = Parse(request);
    ASSERT_TRUE(parsed.ok()) << alignment;
    EXPECT_EQ(parsed->alignment, std::max(Bytes(alignment), Bytes(256)));
  }
  for (const uint64_t wrong : {uint64_t{3}, uint64_t{257}, MiB(2).value() + 1, MiB(4).value(),
                               std::numeric_limits<uint64_t>::max()}) {
    request.set_alignment_bytes(wrong);
    EXPECT_TRUE(absl::IsInvalidArgument(Parse(request).status())) << wrong;
  }
}

TEST(BlockRequestTest, AnUnknownPlacementIsRefused) {
  v1::AllocateRequest request = Smallest();
  request.set_placement(static_cast<v1::Placement>(99));
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(request).status()));
}

TEST(BlockRequestTest, AnUnknownMemoryKindIsRefused) {
  v1::AllocateRequest request = Smallest();
  request.set_memory_kind(static_cast<v1::MemoryKind>(99));
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(request).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(request, Isolation::kStrict).status()));
}

TEST(BlockRequestTest, StrictIsolationGrantsNoHandles) {
  v1::AllocateRequest request = Smallest();
  request.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
  EXPECT_TRUE(absl::IsInvalidArgument(Parse(request, Isolation::kStrict).status()));
  request.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
  EXPECT_TRUE(Parse(request, Isolation::kStrict).ok());
}

}  // namespace
}  // namespace tenure::server
