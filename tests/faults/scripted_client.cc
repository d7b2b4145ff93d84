#include "tests/faults/scripted_client.h"

#include <chrono>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "client/session/deadline.h"
#include "client/session/ticket_exchange.h"
#include "common/bytes.h"
#include "common/socket_path.h"
#include "tenure/v1/admin.grpc.pb.h"

namespace tenure::testing {
namespace {

constexpr char kSegment[] = "weights";

// The answer to an id of an earlier daemon that was not restored, or of a value that has ended.
bool IsGone(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::NOT_FOUND ||
         status.error_code() == grpc::StatusCode::ABORTED;
}

std::string PatternOf(const v1::Token& token) {
  std::string pattern = absl::StrCat("block ", token.allocation_id(), " ");
  pattern.resize(token.size_bytes() < 256 ? token.size_bytes() : 256, '.');
  return pattern;
}

}  // namespace

ScriptedClient::ScriptedClient(KeptDaemon& daemon, cuda::Device& device)
    : daemon_(daemon), device_(device), channel_(daemon.NewChannel()) {
  last_request_ = (uint64_t{std::random_device()()} << 32) | 1;
}

template <typename Service, typename Request, typename Response>
grpc::Status ScriptedClient::Persist(grpc::Status (Service::*method)(grpc::ClientContext*,
                                                                     const Request&, Response*),
                                     const Request& request, Response* response) {
  grpc::Status status;
  Eventually([&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    Service service(channel_);
    status = (service.*method)(&context, request, response);
    const bool answered = status.error_code() != grpc::StatusCode::UNAVAILABLE &&
                          status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED;
    // A new channel: after a refused connection the old one would wait for a second.
    if (!answered) channel_ = daemon_.NewChannel();
    return answered;
  });
  return status;
}

uint64_t ScriptedClient::OpenSession() {
  v1::OpenSessionRequest request;
  request.set_request_id(++last_request_);
  request.set_name("scripted");
  v1::OpenSessionResponse response;
  const grpc::Status status = Persist(&v1::Allocator::Stub::OpenSession, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.survives_daemon());
  return response.session_id();
}

v1::AllocateRequest ScriptedClient::NewRequest(uint64_t bytes, v1::Placement placement) {
  v1::AllocateRequest request;
  request.set_session_id(session_);
  request.set_request_id(++last_request_);
  request.set_size_bytes(bytes);
  request.set_placement(placement);
  request.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
  return request;
}

uint64_t ScriptedClient::Grant(uint64_t bytes, v1::Placement placement) {
  v1::AllocateRequest request = NewRequest(bytes, placement);
  v1::AllocateResponse response;
  grpc::Status status = Persist(&v1::Allocator::Stub::Allocate, request, &response);
  if (status.error_code() == grpc::StatusCode::ABORTED && held_.empty()) {
    // A session without memory is not in the journal yet, and ends with its daemon.
    session_ = OpenSession();
    request.set_session_id(session_);
    status = Persist(&v1::Allocator::Stub::Allocate, request, &response);
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
  Keep(request, response.token());
  return response.token().allocation_id();
}

void ScriptedClient::GrantBatch(const std::vector<uint64_t>& sizes) {
  v1::AllocateBatchRequest batch;
  for (const uint64_t size : sizes)
    *batch.add_requests() = NewRequest(size, v1::PLACEMENT_UNSPECIFIED);
  v1::AllocateBatchResponse response;
  const grpc::Status status = Persist(&v1::Allocator::Stub::AllocateBatch, batch, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.tokens_size(), batch.requests_size());
  for (int i = 0; i < response.tokens_size(); ++i) Keep(batch.requests(i), response.tokens(i));
}

void ScriptedClient::Keep(const v1::AllocateRequest& request, const v1::Token& token) {
  const UniqueFd fd = FdOf(token.allocation_id());
  ASSERT_TRUE(fd);
  absl::StatusOr<cuda::VmmMemory> memory =
      device_.ImportVmm(fd.get(), Bytes(token.region_size_bytes()), cuda::VmmAccess::kReadWrite);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const std::string pattern = PatternOf(token);
  EXPECT_EQ(ContentsOf(*memory, token), std::string(pattern.size(), '\0')) << "not cleared";
  ASSERT_TRUE(
      device_
          .CopyToDevice(memory->base + token.offset_bytes(), pattern.data(), Bytes(pattern.size()))
          .ok());
  EXPECT_TRUE(held_.emplace(token.allocation_id(), Held{token, request, *memory}).second)
      << "an id was given twice";
}

std::string ScriptedClient::ContentsOf(const cuda::VmmMemory& memory, const v1::Token& token) {
  std::string contents(PatternOf(token).size(), 'x');
  EXPECT_TRUE(
      device_
          .CopyToHost(contents.data(), memory.base + token.offset_bytes(), Bytes(contents.size()))
          .ok());
  return contents;
}

UniqueFd ScriptedClient::FdOf(uint64_t allocation) {
  UniqueFd fd;
  // The daemon may die between the ticket and its exchange. Then both are repeated.
  EXPECT_TRUE(Eventually([&] {
    v1::RequestRegionFdRequest request;
    request.set_session_id(session_);
    request.set_allocation_id(allocation);
    v1::RequestRegionFdResponse response;
    if (!Persist(&v1::Allocator::Stub::RequestRegionFd, request, &response).ok()) return false;
    absl::StatusOr<UniqueFd> got = ExchangeTicket(FdSocketPath(daemon_.socket()), response.ticket(),
                                                  Deadline::After(absl::Seconds(5)));
    if (got.ok()) fd = *std::move(got);
    return got.ok();
  })) << "no descriptor of block "
      << allocation;
  return fd;
}

void ScriptedClient::Free(uint64_t allocation, bool unmapped) {
  Held& held = held_.at(allocation);
  EXPECT_TRUE(device_.ReleaseVmm(held.memory).ok());
  v1::FreeRequest request;
  request.set_session_id(session_);
  request.set_request_id(++last_request_);
  request.set_allocation_id(allocation);
  request.set_unmapped(unmapped);
  v1::FreeResponse response;
  const grpc::Status status = Persist(&v1::Allocator::Stub::Free, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  held_.erase(allocation);
}

void ScriptedClient::Publish(uint64_t allocation) {
  v1::PublishSegmentRequest request;
  request.set_session_id(session_);
  request.set_request_id(++last_request_);
  request.set_name(kSegment);
  request.add_allocation_ids(allocation);
  request.set_digest(std::string(32, 'd'));
  v1::PublishSegmentResponse response;
  const grpc::Status status = Persist(&v1::Allocator::Stub::PublishSegment, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  published_ = held_.at(allocation);
  held_.erase(allocation);
}

void ScriptedClient::AttachAndDetach() {
  v1::AttachSegmentRequest request;
  request.set_session_id(OpenSession());
  request.set_request_id(++last_request_);
  request.set_name(kSegment);
  v1::AttachSegmentResponse attached;
  grpc::Status status = Persist(&v1::Allocator::Stub::AttachSegment, request, &attached);
  if (status.error_code() == grpc::StatusCode::ABORTED) {
    request.set_session_id(OpenSession());
    status = Persist(&v1::Allocator::Stub::AttachSegment, request, &attached);
  }
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(attached.state(), v1::AttachSegmentResponse::STATE_ATTACHED);
  ASSERT_EQ(attached.blocks_size(), 1);
  EXPECT_EQ(attached.blocks(0).region_id(), published_.token.region_id());
  EXPECT_EQ(attached.digest(), std::string(32, 'd'));
  v1::DetachSegmentRequest detach;
  detach.set_session_id(request.session_id());
  detach.set_attachment_id(attached.attachment_id());
  v1::DetachSegmentResponse detached;
  status = Persist(&v1::Allocator::Stub::DetachSegment, detach, &detached);
  EXPECT_TRUE(status.ok() || IsGone(status)) << status.error_message();
  status = Persist(&v1::Allocator::Stub::DetachSegment, detach, &detached);
  EXPECT_TRUE(IsGone(status)) << "still attached: " << status.error_message();
  Close(request.session_id());
}

void ScriptedClient::Unpublish() {
  v1::UnpublishSegmentRequest request;
  request.set_name(kSegment);
  request.set_force(true);
  v1::UnpublishSegmentResponse response;
  grpc::Status status = Persist(&v1::Allocator::Stub::UnpublishSegment, request, &response);
  EXPECT_TRUE(status.ok() || IsGone(status)) << status.error_message();
  status = Persist(&v1::Allocator::Stub::UnpublishSegment, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << status.error_message();
  EXPECT_EQ(ContentsOf(published_.memory, published_.token), PatternOf(published_.token))
      << "mapped memory stays mapped";
  EXPECT_TRUE(device_.ReleaseVmm(published_.memory).ok());
}

void ScriptedClient::Trim() {
  v1::TrimResponse response;
  const grpc::Status status = Persist(&v1::Admin::Stub::Trim, v1::TrimRequest(), &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

void ScriptedClient::Close(uint64_t session) {
  v1::CloseSessionRequest request;
  request.set_session_id(session);
  v1::CloseSessionResponse response;
  grpc::Status status = Persist(&v1::Allocator::Stub::CloseSession, request, &response);
  EXPECT_TRUE(status.ok() || IsGone(status)) << status.error_message();
  status = Persist(&v1::Allocator::Stub::CloseSession, request, &response);
  EXPECT_TRUE(IsGone(status)) << status.error_message();
}

void ScriptedClient::Run() {
  session_ = OpenSession();
  const uint64_t small = Grant(KiB(4).value());
  Grant(KiB(40).value());
  Grant(MiB(5).value());
  const uint64_t segment = Grant(MiB(2).value(), v1::PLACEMENT_DIRECT);
  const uint64_t warm = Grant(MiB(3).value());
  const uint64_t cold = Grant(MiB(7).value());
  GrantBatch({1000, MiB(3).value()});
  Free(small, /*unmapped=*/true);
  Free(warm, /*unmapped=*/true);
  Free(cold, /*unmapped=*/false);
  if (::testing::Test::HasFailure()) return;
  Publish(segment);
  if (::testing::Test::HasFailure()) return;
  AttachAndDetach();
  Unpublish();
  Trim();
  Grant(KiB(100).value());
}

void ScriptedClient::ExpectAllIsThere() {
  std::set<uint64_t> listed;
  v1::ListAllocationsResponse list;
  const grpc::Status answered =
      Persist(&v1::Stats::Stub::ListAllocations, v1::ListAllocationsRequest(), &list);
  ASSERT_TRUE(answered.ok()) << answered.error_message();
  for (const v1::Allocation& one : list.allocations()) {
    EXPECT_TRUE(listed.insert(one.allocation_id()).second);
    ASSERT_TRUE(held_.contains(one.allocation_id())) << "no client holds it: " << one.DebugString();
    const v1::Token& token = held_[one.allocation_id()].token;
    EXPECT_EQ(one.region_id(), token.region_id());
    EXPECT_EQ(one.offset_bytes(), token.offset_bytes());
    EXPECT_EQ(one.size_bytes(), token.size_bytes());
  }
  EXPECT_EQ(listed.size(), held_.size()) << "a block that was granted is lost";
  for (const auto& [id, held] : held_) {
    EXPECT_EQ(ContentsOf(held.memory, held.token), PatternOf(held.token));
    const UniqueFd fd = FdOf(id);
    const absl::StatusOr<cuda::VmmMemory> again =
        device_.ImportVmm(fd.get(), held.memory.size, cuda::VmmAccess::kRead);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(ContentsOf(*again, held.token), PatternOf(held.token)) << "not the same memory";
    EXPECT_TRUE(device_.ReleaseVmm(*again).ok());
    // The repeated request gets the first answer.
    v1::AllocateResponse response;
    const grpc::Status status = Persist(&v1::Allocator::Stub::Allocate, held.request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.token().SerializeAsString(), held.token.SerializeAsString());
  }
}

void ScriptedClient::End() {
  for (const auto& [id, held] : held_) EXPECT_TRUE(device_.ReleaseVmm(held.memory).ok());
  held_.clear();
  Close(session_);
  Trim();
}

void ScriptedClient::ExpectNothingIsLeft() {
  v1::GetStatsResponse now;
  EXPECT_TRUE(Eventually([&] {
    return Persist(&v1::Stats::Stub::GetStats, v1::GetStatsRequest(), &now).ok() &&
           now.leased_bytes() == 0 && now.quarantined_bytes() == 0 && now.active_sessions() == 0 &&
           now.active_allocations() == 0;
  })) << now.DebugString();
  EXPECT_EQ(now.total_bytes(), now.driver_free_bytes() + now.reserved_bytes() + now.other_bytes());
  v1::ListSegmentsResponse segments;
  const grpc::Status listed =
      Persist(&v1::Stats::Stub::ListSegments, v1::ListSegmentsRequest(), &segments);
  ASSERT_TRUE(listed.ok()) << listed.error_message();
  EXPECT_EQ(segments.segments_size(), 0) << segments.DebugString();
}

}  // namespace tenure::testing
