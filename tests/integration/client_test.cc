// The client library against a real daemon: leased memory can be used, and all of it is returned.
#include "client/client.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

#include "client/tensor.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

class ClientTest : public ::testing::Test {
 protected:
  Client Connect() {
    absl::StatusOr<Client> client =
        Client::Connect({.socket = daemon_.socket(), .name = "client_test"});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  // The daemon's record of the only session.
  v1::Session OnlySession() {
    const v1::ListSessionsResponse list = daemon_.ListSessions();
    EXPECT_EQ(list.sessions_size(), 1);
    return list.sessions_size() == 1 ? list.sessions(0) : v1::Session();
  }
  void ExpectNothingLeased() {
    const v1::GetStatsResponse stats = daemon_.GetStats();
    EXPECT_EQ(stats.active_sessions(), 0u);
    EXPECT_EQ(stats.active_allocations(), 0u);
    EXPECT_TRUE(Eventually([&] { return daemon_.GetStats().leased_bytes() == 0; }));
  }

  TestDaemon daemon_;
};

std::vector<unsigned char> Pattern(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<unsigned char> bytes(size);
  std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<unsigned char>(random()); });
  return bytes;
}

// Whether the block's first bytes are these.
bool Holds(const DeviceBuffer& buffer, const std::vector<unsigned char>& bytes) {
  std::vector<unsigned char> read(bytes.size());
  const absl::Status copied = buffer.CopyToHost(read.data(), Bytes(read.size()));
  EXPECT_TRUE(copied.ok()) << copied;
  return read == bytes;
}

TEST_F(ClientTest, TensorKeepsItsValuesInAPoolAndInARegionOfItsOwn) {
  Client client = Connect();
  for (const int64_t rows : {3, 3000}) {
    std::vector<float> values(static_cast<size_t>(rows) * 256);
    std::iota(values.begin(), values.end(), 1.0f);
    const absl::StatusOr<Tensor> tensor =
        Tensor::FromHost<float>(client, {rows, 256}, absl::MakeConstSpan(values));
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    EXPECT_EQ(tensor->buffer().size() > client.max_pool_block(), rows == 3000);
    std::vector<float> read(values.size());
    ASSERT_TRUE(tensor->CopyToHost<float>(absl::MakeSpan(read)).ok());
    EXPECT_EQ(read, values);
  }
}

TEST_F(ClientTest, TensorRefusesValuesThatAreNotIts) {
  Client client = Connect();
  absl::StatusOr<Tensor> tensor = Tensor::Create(client, {4}, DType::kI32);
  ASSERT_TRUE(tensor.ok());
  const std::vector<int32_t> few(3);
  const std::vector<float> floats(4);
  EXPECT_TRUE(absl::IsInvalidArgument(tensor->CopyFromHost<int32_t>(few)));
  EXPECT_TRUE(absl::IsInvalidArgument(tensor->CopyFromHost<float>(floats)));
}

TEST_F(ClientTest, CopiesStayInsideTheBuffer) {
  Client client = Connect();
  DeviceBuffer buffer = *client.Allocate(Bytes(1000));
  std::vector<unsigned char> bytes = Pattern(2000, 1);
  EXPECT_TRUE(buffer.CopyFromHost(bytes.data(), Bytes(1000)).ok());
  EXPECT_TRUE(buffer.CopyFromHost(bytes.data(), Bytes(0), buffer.size()).ok());
  const Bytes last = buffer.size() - Bytes(1);
  EXPECT_TRUE(absl::IsOutOfRange(buffer.CopyFromHost(bytes.data(), Bytes(2), last)));
  EXPECT_TRUE(absl::IsOutOfRange(buffer.CopyToHost(bytes.data(), Bytes(2), last)));
  EXPECT_TRUE(absl::IsOutOfRange(buffer.CopyToHost(bytes.data(), Bytes(UINT64_MAX), Bytes(1))));
  EXPECT_TRUE(absl::IsOutOfRange(buffer.CopyToHost(bytes.data(), Bytes(1), Bytes(UINT64_MAX))));
  EXPECT_TRUE(absl::IsInvalidArgument(buffer.CopyToHost(nullptr, Bytes(1))));
}

TEST_F(ClientTest, AlignmentIsThatOfThePointer) {
  Client client = Connect();
  for (const uint64_t alignment : {uint64_t{256}, uint64_t{4096}}) {
    const absl::StatusOr<DeviceBuffer> buffer =
        client.Allocate(Bytes(10), {.alignment = Bytes(alignment)});
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->pointer() % alignment, 0u) << alignment;
  }
}

TEST_F(ClientTest, PlacementIsTheCallersToChoose) {
  Client client = Connect();
  const DeviceBuffer direct = *client.Allocate(Bytes(10), {.placement = Placement::kDirect});
  EXPECT_EQ(direct.size(), MiB(2));
  EXPECT_EQ(direct.requested(), Bytes(10));
  EXPECT_TRUE(
      absl::IsInvalidArgument(client.Allocate(MiB(5), {.placement = Placement::kPool}).status()));
}

TEST_F(ClientTest, ReleasedMemoryLeavesTheSession) {
  Client client = Connect();
  {
    std::vector<DeviceBuffer> buffers;
    for (int i = 0; i < 40; ++i) buffers.push_back(*client.Allocate(KiB(512)));
    buffers.push_back(*client.Allocate(MiB(64)));
    EXPECT_GE(OnlySession().leased_bytes(), MiB(84).value());
  }
  ASSERT_TRUE(client.Flush().ok());
  EXPECT_EQ(OnlySession().allocations(), 0u);
  // The daemon keeps one empty region for the next small block.
  EXPECT_TRUE(Eventually([&] { return OnlySession().regions() <= 1; }));
}

TEST(BusyUserTest, NoFreeOfAClientIsForgotten) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--max-tenant-requests", "50"}});
  Client client = *Client::Connect({.socket = daemon.socket(), .name = "client_test"});
  std::vector<DeviceBuffer> buffers = *client.AllocateBatch(std::vector<Bytes>(40, KiB(4)));
  // The user's other programs use up its requests.
  std::atomic<bool> done = false;
  std::thread others([&] {
    while (!done) {
      grpc::ClientContext context;
      v1::PingResponse response;
      daemon.stats().Ping(&context, {}, &response);
    }
  });
  buffers.clear();
  EXPECT_TRUE(client.Flush().ok());
  done = true;
  others.join();
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    v1::GetStatsResponse stats;
    return daemon.stats().GetStats(&context, {}, &stats).ok() && stats.active_allocations() == 0;
  }));
}

TEST_F(ClientTest, RegionsGoAndComeWithoutMixingContents) {
  Client client = Connect();
  for (uint32_t round = 0; round < 20; ++round) {
    std::vector<DeviceBuffer> buffers;
    for (uint32_t i = 0; i < 12; ++i) {
      buffers.push_back(*client.Allocate(KiB(700)));
      const std::vector<unsigned char> bytes = Pattern(4096, round * 100 + i);
      ASSERT_TRUE(buffers.back().CopyFromHost(bytes.data(), Bytes(bytes.size())).ok());
    }
    for (uint32_t i = 0; i < 12; ++i) {
      EXPECT_TRUE(Holds(buffers[i], Pattern(4096, round * 100 + i))) << round << "," << i;
    }
  }
}

TEST_F(ClientTest, BatchIsGrantedAsAWholeOrNotAtAll) {
  Client client = Connect();
  const absl::StatusOr<std::vector<DeviceBuffer>> small =
      client.AllocateBatch({Bytes(1), KiB(4), MiB(3)});
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->size(), 3u);
  EXPECT_GE((*small)[2].size(), MiB(3));
  const absl::Status refused =
      client.AllocateBatch({MiB(4), Bytes(daemon_.GetStats().total_bytes()), MiB(4)}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(OnlySession().allocations(), 3u);
}

TEST_F(ClientTest, FullDeviceRefusesAndServesOnAfterAFree) {
  Client client = Connect();
  const Bytes most(daemon_.GetStats().total_bytes() / 4 * 3);
  absl::StatusOr<DeviceBuffer> buffer = client.Allocate(most);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_TRUE(absl::IsResourceExhausted(client.Allocate(most).status()));
  buffer = absl::CancelledError();
  // The free is only queued. The client flushes its queue when the daemon has no room.
  const absl::Status again = client.Allocate(most).status();
  EXPECT_TRUE(again.ok()) << again;
}

TEST_F(ClientTest, EndOfTheLastHandleGivesEverythingBack) {
  {
    Client client = Connect();
    const DeviceBuffer kept = *client.Allocate(MiB(10));
    const DeviceBuffer small = *client.Allocate(Bytes(10));
    client = Connect();
    EXPECT_EQ(daemon_.ListSessions().sessions_size(), 2) << "buffers keep their session";
  }
  ExpectNothingLeased();
}

TEST_F(ClientTest, ThreadsLeaseAndReturnSideBySide) {
  Client client = Connect();
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&client, t] {
      std::mt19937 random(t);
      std::vector<std::pair<DeviceBuffer, uint32_t>> held;
      for (uint32_t i = 0; i < 150; ++i) {
        const Bytes size(1 + random() % (i % 10 == 0 ? 4 << 20 : 200 << 10));
        absl::StatusOr<DeviceBuffer> buffer = client.Allocate(size);
        ASSERT_TRUE(buffer.ok()) << buffer.status();
        const std::vector<unsigned char> bytes =
            Pattern(std::min<size_t>(size.value(), 512), t * 1000 + i);
        ASSERT_TRUE(buffer->CopyFromHost(bytes.data(), Bytes(bytes.size())).ok());
        held.emplace_back(*std::move(buffer), t * 1000 + i);
        if (held.size() < 20) continue;
        const size_t victim = random() % held.size();
        const Bytes kept = held[victim].first.requested();
        EXPECT_TRUE(Holds(held[victim].first,
                          Pattern(std::min<size_t>(kept.value(), 512), held[victim].second)));
        if (i % 2 == 0) {
          EXPECT_TRUE(held[victim].first.Release().ok());
        }
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(victim));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(client.Flush().ok());
  EXPECT_EQ(OnlySession().allocations(), 0u);
  EXPECT_EQ(OnlySession().allocated_bytes(), 0u);
  EXPECT_TRUE(Eventually([&] { return OnlySession().regions() <= 1; }));
}

TEST_F(ClientTest, MappedMemoryOutlivesTheDaemon) {
  Client client = Connect();
  const std::vector<unsigned char> bytes = Pattern(100'000, 7);
  DeviceBuffer small = *client.Allocate(Bytes(bytes.size()));
  DeviceBuffer large = *client.Allocate(MiB(5));
  ASSERT_TRUE(small.CopyFromHost(bytes.data(), Bytes(bytes.size())).ok());
  kill(daemon_.pid(), SIGKILL);
  daemon_.WaitForEnd();
  EXPECT_TRUE(Holds(small, bytes));
  EXPECT_TRUE(large.CopyFromHost(bytes.data(), Bytes(bytes.size())).ok());
  EXPECT_TRUE(Holds(large, bytes));
}

TEST_F(ClientTest, NewDaemonAtTheSocketEndsTheSession) {
  Client client = Connect();
  DeviceBuffer buffer = *client.Allocate(Bytes(1000));
  const std::vector<unsigned char> bytes = Pattern(1000, 7);
  ASSERT_TRUE(buffer.CopyFromHost(bytes.data(), Bytes(1000)).ok());
  const std::vector<std::string> command = daemon_.command();
  kill(daemon_.pid(), SIGKILL);
  daemon_.WaitForEnd();
  const pid_t successor = StartProgram(command);
  const absl::Status lost = client.Allocate(Bytes(1)).status();
  EXPECT_TRUE(absl::IsAborted(lost)) << lost;
  EXPECT_EQ(client.status(), lost);
  EXPECT_TRUE(Holds(buffer, bytes)) << "mapped memory stays mapped";
  EXPECT_TRUE(Eventually([&] { return Client::Connect({.socket = daemon_.socket()}).ok(); }));
  kill(successor, SIGTERM);
  EXPECT_EQ(WaitForExit(successor), 0);
}

// With a lease of an hour no keep-alive is due during the test. So it is the watch on the daemon's
// process that reports the loss.
TEST(DaemonEndTest, AKilledDaemonIsReportedAtOnceAndEveryLaterCallSaysTheSame) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--lease-ttl", "1h"}});
  absl::Notification lost;
  absl::Status told;
  ConnectOptions options = {.socket = daemon.socket()};
  options.on_lost = [&](const absl::Status& status) {
    told = status;
    lost.Notify();
  };
  absl::StatusOr<Client> client = Client::Connect(options);
  ASSERT_TRUE(client.ok()) << client.status();
  const DeviceBuffer buffer = *client->Allocate(Bytes(1000));
  kill(daemon.pid(), SIGKILL);
  ASSERT_TRUE(lost.WaitForNotificationWithTimeout(absl::Seconds(20)));
  daemon.WaitForEnd();
  EXPECT_TRUE(absl::IsAborted(told)) << told;
  EXPECT_EQ(client->Allocate(Bytes(1)).status(), told);
  EXPECT_EQ(client->Flush(), told);
  EXPECT_EQ(client->status(), told);
}

}  // namespace
}  // namespace tenure::testing
