// Segments through the client library.

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "client/segment.h"
#include "client/weights_file.h"
#include "common/bytes.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/emulated/control.h"
#include "tests/integration/segment_fixture.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

class SegmentTest : public ::testing::Test {
 protected:
  Client Connect() {
    absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket()});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  std::vector<v1::Segment> List() {
    grpc::ClientContext context;
    v1::ListSegmentsResponse response;
    EXPECT_TRUE(daemon_.stats().ListSegments(&context, {}, &response).ok());
    return {response.segments().begin(), response.segments().end()};
  }

  TestDaemon daemon_{TestDaemon::Options{.memory = "2GiB"}};
};

// A mapping of a VMM_FD segment cannot be written.
bool IsReadOnly(const Client& client, const Segment& segment) {
  const char byte = 'x';
  for (const SegmentBlock& block : segment.blocks()) {
    if (client.device().CopyToDevice(block.pointer, &byte, Bytes(1)).ok()) return false;
  }
  return true;
}

TEST_F(SegmentTest, OthersReadAPublishedSegmentAndCannotWriteIt) {
  Client publisher = Connect();
  absl::StatusOr<SegmentContents> contents = MakeContents(publisher, {MiB(3), MiB(17) + Bytes(5)});
  ASSERT_TRUE(contents.ok()) << contents.status();
  contents->tensors = {{"w", "F32", {2, 3}, 1, MiB(16), Bytes(24)},
                       {"s", "U8", {}, 0, Bytes(7), Bytes(1)}};
  absl::StatusOr<Segment> mine = publisher.Publish("models/llama-3.1_8B", *std::move(contents));
  ASSERT_TRUE(mine.ok()) << mine.status();
  EXPECT_TRUE(IsReadOnly(publisher, *mine));
  EXPECT_TRUE(mine->Verify().ok()) << mine->Verify();
  EXPECT_FALSE(mine->survives_daemon()) << "this daemon has no supervisor";

  Client reader = Connect();
  absl::StatusOr<Segment> theirs = reader.Attach("models/llama-3.1_8B");
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  EXPECT_TRUE(IsReadOnly(reader, *theirs));
  EXPECT_TRUE(theirs->Verify().ok()) << theirs->Verify();
  EXPECT_EQ(theirs->digest(), mine->digest());
  EXPECT_EQ(theirs->size(), MiB(20) + Bytes(5));
  const SegmentTensor* const tensor = theirs->Find("w");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(tensor->pointer, theirs->blocks()[1].pointer + MiB(16).value());
  std::vector<char> bytes(24);
  ASSERT_TRUE(reader.device().CopyToHost(bytes.data(), tensor->pointer, Bytes(24)).ok());
  const std::vector<char> whole = Pattern(MiB(17) + Bytes(5), 2);
  EXPECT_EQ(bytes, std::vector<char>(whole.begin() + (16 << 20), whole.begin() + (16 << 20) + 24));
  EXPECT_EQ(theirs->Find("nothing"), nullptr);
  EXPECT_EQ(List().at(0).attached_session_ids_size(), 2);
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 0u) << "the blocks have left the lease";
}

TEST_F(SegmentTest, PublicationThatThisProcessCannotMapIsAnErrorAndStaysPublished) {
  if (OnRealDevice()) GTEST_SKIP() << "a real driver cannot be told to fail";
  const absl::StatusOr<std::unique_ptr<cuda::Driver>> driver =
      cuda::Driver::Load(*cuda::ResolveDriver("emulated"));
  ASSERT_TRUE(driver.ok()) << driver.status();
  const absl::StatusOr<cuda::emulated::Control> control = cuda::emulated::Control::Open(**driver);
  ASSERT_TRUE(control.ok()) << control.status();
  Client publisher = Connect();
  absl::StatusOr<SegmentContents> contents = MakeContents(publisher, {MiB(2), MiB(4)});
  ASSERT_TRUE(contents.ok()) << contents.status();
  control->Fail("cuMemImportFromShareableHandle", 2, CUDA_ERROR_UNKNOWN);
  EXPECT_FALSE(publisher.Publish("w", *std::move(contents)).ok());
  control->Clear();
  EXPECT_EQ(publisher.Flush(), absl::OkStatus()) << "a published block must not be freed as well";
  const absl::StatusOr<Segment> attached = publisher.Attach("w");
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_TRUE(attached->Verify().ok());
}

TEST_F(SegmentTest, AttachedTwiceInOneProcessItIsMappedUntilTheLastDetach) {
  Client client = Connect();
  absl::StatusOr<Segment> published = PublishPattern(client, "twice", {MiB(4)});
  ASSERT_TRUE(published.ok()) << published.status();
  absl::StatusOr<Segment> again = client.Attach("twice");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->blocks()[0].pointer, published->blocks()[0].pointer);
  EXPECT_TRUE(published->Detach().ok());
  EXPECT_FALSE(*published);
  EXPECT_TRUE(published->Detach().ok()) << "idempotent";
  EXPECT_TRUE(again->Verify().ok());
  *again = Segment();
  EXPECT_TRUE(client.Flush().ok());
  EXPECT_EQ(List().at(0).attached_session_ids_size(), 0);
  absl::StatusOr<Segment> later = client.Attach("twice");
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_TRUE(later->Verify().ok());
}

TEST_F(SegmentTest, OutlivesItsPublisherAndItsMemoryComesBackWithItsEnd) {
  // The client connects before the memory is read: its context takes device memory, too.
  Client reader = Connect();
  const uint64_t before = daemon_.GetStats().driver_free_bytes();
  {
    Client publisher = Connect();
    ASSERT_TRUE(PublishPattern(publisher, "stays", {MiB(40)}).ok());
  }
  ASSERT_TRUE(Eventually([&] { return daemon_.GetStats().active_sessions() == 1; }));
  {
    absl::StatusOr<Segment> segment = reader.Attach("stays");
    ASSERT_TRUE(segment.ok()) << segment.status();
    EXPECT_TRUE(segment->Verify().ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(reader.Unpublish("stays")));
  }
  ASSERT_TRUE(reader.Flush().ok());
  EXPECT_TRUE(reader.Unpublish("stays").ok());
  EXPECT_TRUE(absl::IsNotFound(reader.Unpublish("stays")));
  EXPECT_TRUE(absl::IsNotFound(reader.Attach("stays").status()));
  EXPECT_TRUE(Eventually([&] {
    return daemon_.GetStats().driver_free_bytes() + MiB(8).value() >= before &&
           daemon_.GetStats().leased_bytes() == 0;
  }));
}

TEST_F(SegmentTest, TakenBackByForceItStaysReadableWhereItIsMapped) {
  Client client = Connect();
  absl::StatusOr<Segment> segment = PublishPattern(client, "forced", {MiB(4)});
  ASSERT_TRUE(segment.ok()) << segment.status();
  ASSERT_TRUE(client.Unpublish("forced", /*force=*/true).ok());
  EXPECT_TRUE(segment->Verify().ok());
  EXPECT_TRUE(segment->Detach().ok());
  EXPECT_TRUE(client.status().ok());
  ASSERT_TRUE(PublishPattern(client, "forced", {MiB(2)}).ok()) << "the name is free again";
}

TEST_F(SegmentTest, OfKindCudaIpcItIsSharedAsWell) {
  Client publisher = Connect();
  absl::StatusOr<Segment> mine =
      PublishPattern(publisher, "ipc", {MiB(3), MiB(5)}, MemoryKind::kCudaIpc);
  ASSERT_TRUE(mine.ok()) << mine.status();
  EXPECT_EQ(mine->blocks()[0].kind, MemoryKind::kCudaIpc);
  EXPECT_TRUE(mine->Verify().ok());
  absl::StatusOr<Segment> second = publisher.Attach("ipc");
  ASSERT_TRUE(second.ok()) << second.status();
  Client reader = Connect();
  absl::StatusOr<Segment> theirs = reader.Attach("ipc");
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  EXPECT_TRUE(theirs->Verify().ok());
  EXPECT_TRUE(mine->Detach().ok());
  EXPECT_TRUE(second->Verify().ok());
  // The driver maps CUDA_IPC for writing, so a write succeeds, and the digest shows it.
  ASSERT_TRUE(reader.device().CopyToDevice(theirs->blocks()[1].pointer, "x", Bytes(1)).ok());
  EXPECT_TRUE(absl::IsDataLoss(second->Verify())) << second->Verify();
}

TEST_F(SegmentTest, BlocksOfARefusedPublicationAreFreed) {
  Client client = Connect();
  Client other = Connect();
  const auto refusal = [&](const std::string& name, auto change) {
    absl::StatusOr<SegmentContents> contents = MakeContents(client, {MiB(3)});
    EXPECT_TRUE(contents.ok()) << contents.status();
    change(*contents);
    return client.Publish(name, *std::move(contents)).status();
  };
  const auto as_it_is = [](SegmentContents&) {};
  for (const std::string& name : {std::string(""), std::string("a b"), std::string("ä"),
                                  std::string("a\n"), std::string(129, 'a')}) {
    EXPECT_TRUE(absl::IsInvalidArgument(refusal(name, as_it_is))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(
      refusal("x", [](SegmentContents& contents) { contents.digest = "short"; })));
  EXPECT_TRUE(absl::IsInvalidArgument(
      refusal("x", [](SegmentContents& contents) { contents.blocks.clear(); })));
  EXPECT_TRUE(absl::IsInvalidArgument(
      refusal("x", [](SegmentContents& contents) { contents.blocks.emplace_back(); })));
  EXPECT_TRUE(absl::IsInvalidArgument(refusal("x", [&](SegmentContents& contents) {
    contents.blocks.push_back(*other.Allocate(MiB(3), {.placement = Placement::kDirect}));
  }))) << "another session's block";
  EXPECT_TRUE(absl::IsInvalidArgument(refusal("x", [&](SegmentContents& contents) {
    contents.blocks.push_back(*client.Allocate(KiB(4), {.memory_kind = MemoryKind::kVmmFd}));
  }))) << "a pool's block";
  EXPECT_TRUE(absl::IsInvalidArgument(refusal("x", [&](SegmentContents& contents) {
    contents.blocks.push_back(*client.Allocate(
        MiB(3), {.placement = Placement::kDirect, .memory_kind = MemoryKind::kCudaIpc}));
  }))) << "of another kind";
  for (const SegmentTensor& tensor :
       {SegmentTensor{"t", "U8", {1}, 0, MiB(3), Bytes(1)},
        SegmentTensor{"t", "U8", {1}, 1, Bytes(0), Bytes(1)},
        SegmentTensor{"t", "U8", {1}, 0, Bytes(~uint64_t{0}), Bytes(2)},
        SegmentTensor{"", "U8", {1}, 0, Bytes(0), Bytes(1)},
        SegmentTensor{"t", "U8", std::vector<uint64_t>(9, 1), 0, Bytes(0), Bytes(1)}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        refusal("x", [&](SegmentContents& contents) { contents.tensors = {tensor}; })));
  }
  ASSERT_TRUE(client.Publish("x", *MakeContents(client, {MiB(3)})).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(refusal("x", as_it_is)));
  EXPECT_TRUE(client.Flush().ok());
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 0u);
}

TEST_F(SegmentTest, AsManyTensorsAsTheLimitAllowsTravel) {
  Client client = Connect();
  absl::StatusOr<SegmentContents> contents = MakeContents(client, {MiB(3)});
  ASSERT_TRUE(contents.ok());
  for (int i = 0; i < 8192; ++i) {
    contents->tensors.push_back({absl::StrCat(i, std::string(250, 'n')),
                                 "F32",
                                 {1, 1, 1, 1},
                                 0,
                                 Bytes(static_cast<uint64_t>(i) * 256),
                                 Bytes(4)});
  }
  absl::StatusOr<Segment> mine = client.Publish("many", *std::move(contents));
  ASSERT_TRUE(mine.ok()) << mine.status();
  absl::StatusOr<Segment> again = client.Attach("many");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->tensors().size(), 8192u);
  EXPECT_EQ(again->tensors()[8191].offset, Bytes(8191 * 256));
}

TEST_F(SegmentTest, ForeignIdsDetachNothing) {
  Client client = Connect();
  absl::StatusOr<Segment> segment = PublishPattern(client, "ids", {MiB(2)});
  ASSERT_TRUE(segment.ok());
  RawSession stranger(daemon_.allocator());
  v1::AttachSegmentRequest attach;
  attach.set_session_id(stranger.id());
  attach.set_request_id(stranger.NextRequestId());
  attach.set_name("ids");
  v1::AttachSegmentResponse attached;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(daemon_.allocator().AttachSegment(&context, attach, &attached).ok());
  }
  RawSession other(daemon_.allocator());
  v1::DetachSegmentRequest detach;
  detach.set_session_id(other.id());
  detach.set_attachment_id(attached.attachment_id());
  v1::DetachSegmentResponse detached;
  grpc::ClientContext context;
  EXPECT_EQ(daemon_.allocator().DetachSegment(&context, detach, &detached).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(List().at(0).attached_session_ids_size(), 2);
}

TEST_F(SegmentTest, TheFirstCallerLoadsAndTheOthersWait) {
  std::atomic<int> loads = 0;
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  std::vector<Client> clients = {Connect(), Connect(), Connect()};
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, client = clients[static_cast<size_t>(i) % 3]]() mutable {
      const absl::StatusOr<Segment> segment = client.AttachOrLoad("first", [&](Client& loader) {
        ++loads;
        return MakeContents(loader, {MiB(6)});
      });
      ASSERT_TRUE(segment.ok()) << segment.status();
      good += segment->Verify().ok();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(good, 6);
}

TEST_F(SegmentTest, ALoaderThatFailsGivesTheClaimBack) {
  Client client = Connect();
  Client next = Connect();
  const absl::StatusOr<Segment> failed =
      client.AttachOrLoad("tried", [](Client&) -> absl::StatusOr<SegmentContents> {
        return absl::DataLossError("the disk is broken");
      });
  EXPECT_TRUE(absl::IsDataLoss(failed.status())) << failed.status();
  EXPECT_TRUE(List().empty());
  const auto load = [](Client& loader) { return MakeContents(loader, {MiB(2)}); };
  EXPECT_TRUE(next.AttachOrLoad("tried", load, {.wait = absl::ZeroDuration()}).ok());
  EXPECT_TRUE(client.AttachOrLoad("tried", load, {.wait = absl::ZeroDuration()}).ok());
  // One that throws leaves the name to the next, too.
  const auto thrower = [](Client&) -> absl::StatusOr<SegmentContents> {
    throw std::runtime_error("the file is not what it was");
  };
  EXPECT_THROW(static_cast<void>(client.AttachOrLoad("thrown", thrower)), std::runtime_error);
  EXPECT_TRUE(next.AttachOrLoad("thrown", load, {.wait = absl::ZeroDuration()}).ok());
}

TEST_F(SegmentTest, EndingAClaimNeverEndsAPublishedSegment) {
  Client client = Connect();
  ASSERT_TRUE(PublishPattern(client, "published", {MiB(2)}).ok());
  ASSERT_TRUE(client.Flush().ok());
  RawSession late(daemon_.allocator());
  v1::UnpublishSegmentRequest request;
  request.set_session_id(late.id());
  request.set_name("published");
  v1::UnpublishSegmentResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(daemon_.allocator().UnpublishSegment(&context, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(client.Attach("published").ok());
}

TEST_F(SegmentTest, ALoaderThatDiesLeavesTheClaimToTheNext) {
  LeaseClientProcess loader({"load", daemon_.socket(), "orphan"});
  ASSERT_EQ(loader.ReadLine(), "loading");
  ASSERT_EQ(List().size(), 1u);
  EXPECT_EQ(List()[0].state(), "LOADING");
  Client client = Connect();
  const auto load = [](Client& loading) { return MakeContents(loading, {MiB(2)}); };
  const absl::StatusOr<Segment> early =
      client.AttachOrLoad("orphan", load, {.wait = absl::ZeroDuration()});
  EXPECT_TRUE(absl::IsDeadlineExceeded(early.status())) << early.status();
  EXPECT_TRUE(absl::IsNotFound(client.Attach("orphan").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(PublishPattern(client, "orphan", {MiB(2)}).status()));
  loader.Kill();
  const absl::StatusOr<Segment> segment = client.AttachOrLoad("orphan", load);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_TRUE(segment->Verify().ok());
}

TEST_F(SegmentTest, AFileOfWeightsBecomesItsTensorsWithAlignedAddresses) {
  const std::string path = daemon_.folder() + "/w.safetensors";
  WriteSafetensors(path, 7, 1'000'003);
  const absl::StatusOr<WeightsFile> file = WeightsFile::Open(path, /*max_block=*/MiB(10));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->blocks().size(), 4u) << "two tensors of 4 MB fit into each";
  Client client = Connect();
  absl::StatusOr<SegmentContents> contents = file->Load(client);
  ASSERT_TRUE(contents.ok()) << contents.status();
  const absl::StatusOr<Segment> segment = client.Publish("file", *std::move(contents));
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_TRUE(segment->Verify().ok()) << segment->Verify();
  const std::vector<char> data = Pattern(MiB(27), 9);
  uint64_t begin = 0;
  for (int i = 0; i < 7; ++i) {
    const SegmentTensor* const tensor = segment->Find(absl::StrCat("layer.", i));
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->pointer % 256, 0u);
    std::vector<char> bytes(tensor->size.value());
    ASSERT_TRUE(client.device().CopyToHost(bytes.data(), tensor->pointer, tensor->size).ok());
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), data.begin() + static_cast<int64_t>(begin)));
    begin += tensor->size.value();
  }
  const SegmentTensor& first = *segment->Find("layer.0");
  const SegmentTensor& second = *segment->Find("layer.1");
  const Bytes gap(second.pointer - first.pointer - first.size.value());
  ASSERT_GT(gap, Bytes(0));
  std::vector<char> between(gap.value(), 'x');
  ASSERT_TRUE(
      client.device().CopyToHost(between.data(), first.pointer + first.size.value(), gap).ok());
  EXPECT_EQ(between, std::vector<char>(gap.value(), 0));
}

TEST_F(SegmentTest, AnInvalidFileIsRefusedBeforeAnyAllocation) {
  const std::string path = daemon_.folder() + "/w.safetensors";
  EXPECT_TRUE(absl::IsNotFound(WeightsFile::Open(path).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(WeightsFile::Open(daemon_.folder()).status()));
  for (const std::string& text : {std::string(), std::string("abc"), std::string(8, '\0'),
                                  std::string("\2\0\0\0\0\0\0\0{}", 10), std::string(9, '\xff')}) {
    std::ofstream(path, std::ios::binary) << text;
    EXPECT_TRUE(absl::IsInvalidArgument(WeightsFile::Open(path).status())) << text.size();
  }
  // The file is truncated after it was opened.
  WriteSafetensors(path, 3, 1'000'003);
  const absl::StatusOr<WeightsFile> file = WeightsFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(path, 1'000'000);
  Client client = Connect();
  EXPECT_TRUE(absl::IsDataLoss(file->Load(client).status()));
  EXPECT_TRUE(client.Flush().ok());
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 0u);
}

}  // namespace
}  // namespace tenure::testing
