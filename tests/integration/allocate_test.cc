// The answers to Allocate and Free, over the wire.

#include <limits>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

using grpc::StatusCode;

class AllocateTest : public ::testing::Test {
 protected:
  // Checks that the books balance and that no session holds memory.
  void ExpectNothingHeld() {
    const v1::GetStatsResponse stats = daemon_.GetStats();
    EXPECT_EQ(stats.active_allocations(), 0u);
    EXPECT_EQ(stats.allocated_bytes(), 0u);
    EXPECT_EQ(stats.requested_bytes(), 0u);
  }

  TestDaemon daemon_;
  RawSession session_{daemon_.allocator()};
};

TEST_F(AllocateTest, SmallBlocksShareARegionAndLargeOnesHaveTheirOwn) {
  v1::Token first;
  v1::Token second;
  v1::Token large;
  ASSERT_TRUE(session_.Allocate(1000, &first).ok());
  ASSERT_TRUE(session_.Allocate(1000, &second).ok());
  ASSERT_TRUE(session_.Allocate(MiB(3).value(), &large).ok());
  EXPECT_EQ(first.region_id(), second.region_id());
  EXPECT_NE(first.offset_bytes(), second.offset_bytes());
  EXPECT_EQ(first.size_bytes(), 1024u);
  EXPECT_EQ(first.ipc_handle().size(), 64u);
  EXPECT_NE(large.region_id(), first.region_id());
  EXPECT_EQ(large.offset_bytes(), 0u);
  EXPECT_GE(large.size_bytes(), MiB(3).value());
  EXPECT_EQ(large.size_bytes(), large.region_size_bytes());
}

TEST_F(AllocateTest, ImpossibleRequestsAreRefusedInWordsAndChangeNothing) {
  struct Case {
    std::string what;
    uint64_t size;
    uint64_t alignment;
    int placement;
    StatusCode code;
    std::string says;
  };
  const uint64_t huge = std::numeric_limits<uint64_t>::max();
  const std::vector<Case> cases = {
      {"nothing", 0, 0, 0, StatusCode::INVALID_ARGUMENT, "at least 1"},
      {"more than the device", uint64_t{1} << 50, 0, 0, StatusCode::RESOURCE_EXHAUSTED,
       "more than the device has"},
      {"2^64-1", huge, 0, 0, StatusCode::RESOURCE_EXHAUSTED, "more than the device has"},
      {"alignment 3", 1, 3, 0, StatusCode::INVALID_ARGUMENT, "power of two"},
      {"alignment 2^63", 1, uint64_t{1} << 63, 0, StatusCode::INVALID_ARGUMENT, "power of two"},
      {"alignment 2^64-1", 1, huge, 0, StatusCode::INVALID_ARGUMENT, "power of two"},
      {"unknown placement", 1, 0, 7, StatusCode::INVALID_ARGUMENT, "placement 7"},
      {"too large for a pool", MiB(2).value(), 0, v1::PLACEMENT_POOL, StatusCode::INVALID_ARGUMENT,
       "pools"},
  };
  for (const Case& one : cases) {
    v1::AllocateRequest request = session_.Request(one.size);
    request.set_alignment_bytes(one.alignment);
    request.set_placement(static_cast<v1::Placement>(one.placement));
    const grpc::Status status = session_.Send(request);
    EXPECT_EQ(status.error_code(), one.code) << one.what << ": " << status.error_message();
    EXPECT_NE(status.error_message().find(one.says), std::string::npos)
        << one.what << ": " << status.error_message();
  }
  v1::AllocateRequest request = session_.Request(1);
  request.set_request_id(0);
  EXPECT_EQ(session_.Send(request).error_code(), StatusCode::INVALID_ARGUMENT);
  ExpectNothingHeld();
}

TEST_F(AllocateTest, EveryAlignmentUpTo2MiBIsHonoured) {
  for (uint64_t alignment = 1; alignment <= MiB(2).value(); alignment *= 2) {
    v1::AllocateRequest request = session_.Request(300);
    request.set_alignment_bytes(alignment);
    v1::Token token;
    ASSERT_TRUE(session_.Send(request, &token).ok()) << alignment;
    // Regions start at multiples of 2 MiB, so the offset in the region shows the alignment.
    EXPECT_EQ(token.offset_bytes() % std::max<uint64_t>(alignment, 256), 0u) << alignment;
  }
}

TEST_F(AllocateTest, ARepeatedRequestGetsTheSameAnswerAndLeaksNothing) {
  const v1::AllocateRequest request = session_.Request(5000);
  v1::Token first;
  v1::Token again;
  ASSERT_TRUE(session_.Send(request, &first).ok());
  ASSERT_TRUE(session_.Send(request, &again).ok());
  EXPECT_EQ(first.SerializeAsString(), again.SerializeAsString());
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 1u);

  const v1::FreeRequest free = session_.FreeRequest(first.allocation_id());
  EXPECT_TRUE(session_.Send(free).ok());
  EXPECT_TRUE(session_.Send(free).ok());
  ExpectNothingHeld();
  EXPECT_EQ(session_.Send(request).error_code(), StatusCode::FAILED_PRECONDITION)
      << "the id's allocation was freed";
}

TEST_F(AllocateTest, ASecondFreeAndUnknownIdsAreNotFound) {
  v1::Token token;
  ASSERT_TRUE(session_.Allocate(100, &token).ok());
  ASSERT_TRUE(session_.Free(token.allocation_id()).ok());
  EXPECT_EQ(session_.Free(token.allocation_id()).error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(session_.Free(token.allocation_id() ^ 1).error_code(), StatusCode::NOT_FOUND);
  // The upper bits are the daemon's epoch. An id of another epoch is stale, not unknown.
  EXPECT_EQ(session_.Free(token.allocation_id() ^ (uint64_t{1} << 63)).error_code(),
            StatusCode::ABORTED);
  EXPECT_EQ(session_.Free(0).error_code(), StatusCode::NOT_FOUND) << "no life has epoch 0";
  ExpectNothingHeld();
}

TEST_F(AllocateTest, AnIdThatWasUsedAgainDoesNotNameTheNewAllocation) {
  v1::Token old;
  v1::Token fresh;
  ASSERT_TRUE(session_.Allocate(100, &old).ok());
  ASSERT_TRUE(session_.Free(old.allocation_id()).ok());
  ASSERT_TRUE(session_.Allocate(100, &fresh).ok());
  EXPECT_NE(old.allocation_id(), fresh.allocation_id());
  EXPECT_EQ(session_.Free(old.allocation_id()).error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 1u);
}

TEST_F(AllocateTest, AnotherProcessCanDoNothingWithOurIds) {
  v1::Token token;
  ASSERT_TRUE(session_.Allocate(100, &token).ok());
  LeaseClientProcess intruder({"intrude", daemon_.socket(), std::to_string(session_.id()),
                               std::to_string(token.allocation_id())});
  EXPECT_EQ(intruder.ReadLine(), "5 5 5");  // NOT_FOUND, each time
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 1u);
  EXPECT_TRUE(session_.Free(token.allocation_id()).ok());
}

TEST_F(AllocateTest, AnotherSessionOfTheSameProcessCannotFreeIt) {
  v1::Token token;
  ASSERT_TRUE(session_.Allocate(100, &token).ok());
  RawSession other(daemon_.allocator());
  EXPECT_EQ(other.Free(token.allocation_id()).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(AllocateTest, ABatchIsGrantedWholeOrNotAtAll) {
  v1::AllocateBatchRequest batch;
  for (int i = 0; i < 10; ++i) *batch.add_requests() = session_.Request(4096);
  v1::AllocateBatchResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(daemon_.allocator().AllocateBatch(&context, batch, &response).ok());
  }
  ASSERT_EQ(response.tokens_size(), 10);
  std::set<std::pair<uint64_t, uint64_t>> places;
  for (const v1::Token& token : response.tokens())
    places.emplace(token.region_id(), token.offset_bytes());
  EXPECT_EQ(places.size(), 10u);

  v1::AllocateBatchRequest too_much;
  *too_much.add_requests() = session_.Request(4096);
  const uint64_t total = daemon_.GetStats().total_bytes();
  for (int i = 0; i < 2; ++i) *too_much.add_requests() = session_.Request(total / 3 * 2);
  {
    grpc::ClientContext context;
    v1::AllocateBatchResponse none;
    EXPECT_EQ(daemon_.allocator().AllocateBatch(&context, too_much, &none).error_code(),
              StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 10u);

  v1::FreeBatchRequest frees;
  for (const v1::Token& token : response.tokens())
    *frees.add_requests() = session_.FreeRequest(token.allocation_id());
  *frees.add_requests() = session_.FreeRequest(response.tokens(0).allocation_id());
  grpc::ClientContext context;
  v1::FreeBatchResponse outcomes;
  ASSERT_TRUE(daemon_.allocator().FreeBatch(&context, frees, &outcomes).ok());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(outcomes.outcomes(i).code(), StatusCode::OK);
  EXPECT_EQ(outcomes.outcomes(10).code(), StatusCode::NOT_FOUND);
  ExpectNothingHeld();
}

TEST(FullDeviceTest, IdleWarmMemoryIsNeverTheReasonForARefusal) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--warm-reserve", "20%"}});
  RawSession session(daemon.allocator());
  const v1::GetStatsResponse before = daemon.GetStats();
  ASSERT_GT(before.warm_bytes(), before.total_bytes() / 6);
  // This is more than the driver has free now, and less than it has after the warm memory is
  // returned to it.
  const uint64_t wanted = before.driver_free_bytes() + before.warm_bytes() / 2;
  v1::Token token;
  const grpc::Status granted = session.Allocate(wanted, &token);
  ASSERT_TRUE(granted.ok()) << granted.error_message();
  const grpc::Status refused = session.Allocate(before.total_bytes() / 2);
  EXPECT_EQ(refused.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(refused.error_message().find("tenurectl ps"), std::string::npos)
      << refused.error_message();
  ASSERT_TRUE(session.Free(token.allocation_id()).ok());
  EXPECT_EQ(daemon.GetStats().leased_bytes(), 0u);
}

}  // namespace
}  // namespace tenure::testing
