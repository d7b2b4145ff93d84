// A client whose daemon is slow, does not answer, has ended or was restarted. The daemon is a fake
// in this process.
#include "client/client.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

#include "tests/client/eventually.h"
#include "tests/client/fake_daemon.h"

namespace tenure::testing {
namespace {

using Call = FakeDaemon::Call;

grpc::Status Unavailable() { return {grpc::StatusCode::UNAVAILABLE, "try again"}; }

ConnectOptions OptionsFor(const FakeDaemon& daemon) {
  return {.socket = daemon.socket(), .map = false};
}

Client ConnectTo(const FakeDaemon& daemon) {
  absl::StatusOr<Client> client = Client::Connect(OptionsFor(daemon));
  EXPECT_TRUE(client.ok()) << client.status();
  return *std::move(client);
}

// Refuses the first `count` calls of `method` with `refusal`.
FakeDaemon::Obstacle RefuseFirst(const std::string& method, int count, grpc::Status refusal) {
  auto left = std::make_shared<std::atomic<int>>(count);
  return [=](const Call& call, grpc::ServerContext*) {
    if (call.method != method || left->fetch_sub(1) <= 0) return grpc::Status::OK;
    return refusal;
  };
}

// Every attempt of a repeated call carries one request id.
void ExpectOneRequestId(const std::vector<Call>& calls) {
  std::set<uint64_t> ids;
  for (const Call& call : calls) ids.insert(call.request_id);
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_FALSE(ids.contains(0));
}

TEST(Client, AllocateIsRepeatedWithItsRequestIdUntilTheDaemonAnswers) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  daemon.SetObstacle(RefuseFirst("Allocate", 3, Unavailable()));
  const absl::StatusOr<DeviceBuffer> buffer = client.Allocate(Bytes(100));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(daemon.Calls("Allocate").size(), 4u);
  ExpectOneRequestId(daemon.Calls("Allocate"));
}

TEST(Client, LostReplyOfAllocateLeaksNothing) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  daemon.LoseReplies("Allocate", 2);
  const absl::StatusOr<DeviceBuffer> buffer = client.Allocate(Bytes(100));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(daemon.allocations(), 1u);
}

TEST(Client, LostReplyOfFreeIsNoError) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  absl::StatusOr<DeviceBuffer> buffer = client.Allocate(Bytes(100));
  ASSERT_TRUE(buffer.ok());
  daemon.LoseReplies("Free", 1);
  EXPECT_EQ(buffer->Release(), absl::OkStatus());
  EXPECT_EQ(daemon.allocations(), 0u);
  EXPECT_EQ(buffer->Release(), absl::OkStatus()) << "an empty buffer has nothing to release";
  EXPECT_EQ(daemon.Calls("Free").size(), 2u);
}

TEST(Client, HangingAttemptDoesNotUseUpTheCall) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::atomic<bool> hung = false;
  daemon.SetObstacle([&](const Call& call, grpc::ServerContext* context) {
    if (call.method != "Allocate" || hung.exchange(true)) return grpc::Status::OK;
    EXPECT_TRUE(Eventually([&] { return context->IsCancelled(); }));
    return Unavailable();
  });
  const absl::StatusOr<DeviceBuffer> buffer = client.Allocate(Bytes(100));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  ExpectOneRequestId(daemon.Calls("Allocate"));
}

TEST(Client, CallGivesUpAtItsTimeout) {
  FakeDaemon daemon;
  ConnectOptions options = OptionsFor(daemon);
  options.call_timeout = absl::Milliseconds(50);
  absl::StatusOr<Client> client = Client::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  daemon.SetObstacle(RefuseFirst("Allocate", 1'000'000, Unavailable()));
  EXPECT_TRUE(absl::IsUnavailable(client->Allocate(Bytes(1)).status()));
  EXPECT_GE(daemon.Calls("Allocate").size(), 2u);
}

TEST(Client, RefusalIsNotRepeated) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  daemon.SetObstacle(
      RefuseFirst("Allocate", 9, {grpc::StatusCode::RESOURCE_EXHAUSTED, "free 3 GiB"}));
  const absl::Status status = client.Allocate(Bytes(100)).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(), "free 3 GiB");
  EXPECT_EQ(daemon.Calls("Allocate").size(), 1u);
}

TEST(Client, AFullDaemonGetsTheRequestAgainAfterTheQueuedFrees) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::optional<DeviceBuffer> held = *client.Allocate(Bytes(100));
  absl::Notification asked;
  daemon.SetObstacle([&](const Call& call, grpc::ServerContext*) {
    // There is room for one block. The free of the first block is answered only after the second
    // block was requested.
    if (call.method == "FreeBatch") asked.WaitForNotification();
    if (call.method != "Allocate" || daemon.allocations() == 0) return grpc::Status::OK;
    if (!asked.HasBeenNotified()) asked.Notify();
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  });
  held.reset();
  const absl::StatusOr<DeviceBuffer> next = client.Allocate(Bytes(100));
  EXPECT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(daemon.allocations(), 1u);
}

TEST(Client, ASuspendedSessionRenewsItsLeaseAndRepeatsTheRequest) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::atomic<bool> suspended = true;
  daemon.SetObstacle([&](const Call& call, grpc::ServerContext*) {
    if (call.method == "KeepAlive") suspended = false;
    if (call.method != "Allocate" || !suspended) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "suspended");
  });
  const absl::StatusOr<DeviceBuffer> buffer = client.Allocate(Bytes(100));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  ExpectOneRequestId(daemon.Calls("Allocate"));
}

TEST(Client, IdleClientRenewsItsLease) {
  FakeDaemon daemon(/*lease_ttl_ms=*/60);
  Client client = ConnectTo(daemon);
  EXPECT_TRUE(Eventually([&] { return daemon.Calls("KeepAlive").size() >= 3; }));
  EXPECT_EQ(client.status(), absl::OkStatus());
}

TEST(Client, LeaseIsRenewedWhileFreesAreNotAnswered) {
  FakeDaemon daemon(/*lease_ttl_ms=*/60);
  Client client = ConnectTo(daemon);
  { const DeviceBuffer buffer = *client.Allocate(Bytes(100)); }
  daemon.SetObstacle(RefuseFirst("FreeBatch", 1'000'000, Unavailable()));
  { const DeviceBuffer buffer = *client.Allocate(Bytes(100)); }
  const size_t before = daemon.Calls("KeepAlive").size();
  EXPECT_TRUE(Eventually([&] {
    return daemon.Calls("KeepAlive").size() >= before + 3 && daemon.Calls("FreeBatch").size() >= 3;
  }));
}

TEST(Client, LostSessionStaysLostAndIsReportedOnce) {
  FakeDaemon daemon;
  std::atomic<int> reports = 0;
  absl::Notification reported;
  ConnectOptions options = OptionsFor(daemon);
  options.on_lost = [&](const absl::Status& status) {
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    if (reports++ == 0) reported.Notify();
  };
  absl::StatusOr<Client> client = Client::Connect(options);
  ASSERT_TRUE(client.ok());
  DeviceBuffer buffer = *client->Allocate(Bytes(100));
  daemon.EndSessions();
  const absl::Status first = client->Allocate(Bytes(100)).status();
  EXPECT_TRUE(absl::IsAborted(first)) << first;
  ASSERT_TRUE(reported.WaitForNotificationWithTimeout(absl::Seconds(20)));
  const size_t calls = daemon.Calls("Allocate").size();
  EXPECT_EQ(client->Allocate(Bytes(100)).status(), first);
  EXPECT_EQ(client->Flush(), first);
  EXPECT_EQ(client->status(), first);
  EXPECT_EQ(buffer.Release(), first);
  EXPECT_EQ(daemon.Calls("Allocate").size(), calls) << "a lost session sends no request";
  EXPECT_EQ(reports, 1);
}

TEST(Client, ForgottenAllocationMakesTheClientLookAfterItsSession) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  DeviceBuffer buffer = *client.Allocate(Bytes(100));
  daemon.EndSessions();
  EXPECT_TRUE(absl::IsNotFound(buffer.Release()));
  EXPECT_TRUE(Eventually([&] { return absl::IsAborted(client.status()); }));
}

TEST(Client, ReplyOfAnotherEpochEndsTheSession) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  daemon.SetObstacle(RefuseFirst("Allocate", 1, {grpc::StatusCode::ABORTED, "another epoch"}));
  EXPECT_TRUE(absl::IsAborted(client.Allocate(Bytes(100)).status()));
  EXPECT_TRUE(absl::IsAborted(client.status()));
}

TEST(Client, DroppedBuffersAreFreedInBatches) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::vector<DeviceBuffer> buffers;
  for (int i = 0; i < 300; ++i) buffers.push_back(*client.Allocate(Bytes(100)));
  absl::Notification all_dropped;
  daemon.SetObstacle([&](const Call& call, grpc::ServerContext*) {
    if (call.method == "FreeBatch") all_dropped.WaitForNotification();
    return grpc::Status::OK;
  });
  buffers.clear();
  all_dropped.Notify();
  EXPECT_EQ(client.Flush(), absl::OkStatus());
  EXPECT_EQ(daemon.allocations(), 0u);
  EXPECT_LE(daemon.Calls("FreeBatch").size(), 3u);
}

TEST(Client, QueuedFreeKeepsItsRequestIdWhileTheDaemonDoesNotAnswer) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::optional<DeviceBuffer> buffer = *client.Allocate(Bytes(100));
  daemon.LoseReplies("FreeBatch", 3);
  buffer.reset();
  EXPECT_EQ(client.Flush(), absl::OkStatus());
  EXPECT_EQ(daemon.Calls("FreeBatch").size(), 4u);
  ExpectOneRequestId(daemon.Calls("FreeBatch"));
  EXPECT_EQ(daemon.allocations(), 0u);
}

TEST(Client, RefusedFreeIsSentAgainWithItsRequestId) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::optional<DeviceBuffer> buffer = *client.Allocate(Bytes(100));
  daemon.SetObstacle(RefuseFirst("FreeBatch", 1, {grpc::StatusCode::INTERNAL, "broken"}));
  buffer.reset();
  EXPECT_EQ(client.Flush(), absl::OkStatus());
  EXPECT_EQ(daemon.Calls("FreeBatch").size(), 2u);
  ExpectOneRequestId(daemon.Calls("FreeBatch"));
  EXPECT_EQ(daemon.allocations(), 0u);
}

TEST(Client, FlushReturnsTheErrorOfAFailedFree) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::optional<DeviceBuffer> buffer = *client.Allocate(Bytes(100));
  daemon.EndAllocations();
  buffer.reset();
  EXPECT_TRUE(absl::IsNotFound(client.Flush()));
  EXPECT_EQ(client.Flush(), absl::OkStatus()) << "the error is returned once";
}

TEST(Client, IdleRegionsGoBackToTheDaemon) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  DeviceBuffer first = *client.Allocate(Bytes(100));
  std::optional<DeviceBuffer> second = *client.Allocate(Bytes(100));
  daemon.CallIdle({77, 78});
  EXPECT_EQ(first.Release(), absl::OkStatus());
  EXPECT_TRUE(Eventually([&] { return daemon.released_regions().size() == 2; }));
  daemon.CallIdle({79});
  daemon.LoseReplies("ReleaseRegions", 1);
  second.reset();
  EXPECT_TRUE(Eventually([&] {
    return daemon.released_regions() == std::vector<uint64_t>({77, 78, 79, 79});
  })) << "a release is repeated until it is answered";
}

TEST(Client, LastHandleEndsTheSession) {
  FakeDaemon daemon;
  std::optional<Client> client = ConnectTo(daemon);
  std::optional<Client> copy = *client;
  std::optional<DeviceBuffer> buffer = *client->Allocate(Bytes(100));
  client.reset();
  copy.reset();
  EXPECT_EQ(daemon.sessions(), 1u) << "a buffer keeps the session";
  buffer.reset();
  EXPECT_EQ(daemon.sessions(), 0u);
}

TEST(Client, EndsWhileTheDaemonHangs) {
  FakeDaemon daemon(/*lease_ttl_ms=*/30);
  std::optional<Client> client = ConnectTo(daemon);
  absl::Notification over;
  std::atomic<int> hanging = 0;
  daemon.SetObstacle([&](const Call&, grpc::ServerContext*) {
    ++hanging;
    over.WaitForNotification();
    return Unavailable();
  });
  EXPECT_TRUE(Eventually([&] { return hanging > 0; }));
  client.reset();
  over.Notify();
}

TEST(Client, ForkedChildIsToldSoAndTouchesNothing) {
  FakeDaemon daemon;
  std::optional<Client> client = ConnectTo(daemon);
  std::optional<DeviceBuffer> buffer = *client->Allocate(Bytes(100));
  DeviceBuffer released = *client->Allocate(Bytes(100));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool told = absl::IsFailedPrecondition(client->Allocate(Bytes(1)).status()) &&
                      absl::IsFailedPrecondition(client->Flush()) &&
                      absl::IsFailedPrecondition(client->status()) &&
                      absl::IsFailedPrecondition(released.Release());
    buffer.reset();
    client.reset();
    _exit(told ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(daemon.allocations(), 2u) << "the child freed its parent's blocks";
  EXPECT_EQ(daemon.sessions(), 1u);
  EXPECT_EQ(client->status(), absl::OkStatus()) << "the parent's session is not affected";
}

TEST(Client, ThreadsShareOneSession) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([client]() mutable {
      for (int i = 0; i < 50; ++i) {
        absl::StatusOr<DeviceBuffer> buffer = client.Allocate(Bytes(100));
        ASSERT_TRUE(buffer.ok()) << buffer.status();
        // The other half is freed by the destructor.
        if (i % 2 == 0) {
          EXPECT_EQ(buffer->Release(), absl::OkStatus());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(client.Flush(), absl::OkStatus());
  EXPECT_EQ(daemon.allocations(), 0u);
}

TEST(Client, BatchBeyondTheDaemonsLimitIsRefusedHere) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  EXPECT_TRUE(
      absl::IsInvalidArgument(client.AllocateBatch(std::vector<Bytes>(1025, Bytes(1))).status()));
  EXPECT_TRUE(client.AllocateBatch({}).ok());
}

TEST(Client, BufferWithoutMappingSaysSo) {
  FakeDaemon daemon;
  Client client = ConnectTo(daemon);
  DeviceBuffer buffer = *client.Allocate(Bytes(100));
  char byte = 0;
  EXPECT_EQ(buffer.pointer(), 0u);
  EXPECT_TRUE(absl::IsFailedPrecondition(buffer.CopyFromHost(&byte, Bytes(1))));
  DeviceBuffer taken = std::move(buffer);
  EXPECT_FALSE(buffer);  // NOLINT(bugprone-use-after-move): what is left is specified
  EXPECT_TRUE(absl::IsFailedPrecondition(buffer.CopyToHost(&byte, Bytes(1))));
  EXPECT_EQ(taken.requested(), Bytes(100));
}

}  // namespace
}  // namespace tenure::testing
