// The daemon dies, again and again, while its clients' kernels run on memory that outlives it.
// Needs a GPU. TENURE_DAEMON_KILLS is the number of deaths.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "client/client.h"
#include "client/segment.h"
#include "client/weights/digest.h"
#include "common/bytes.h"
#include "tests/support/kept_daemon.h"
#include "tests/support/lease_client_process.h"

namespace tenure::testing {
namespace {

int Deaths() {
  const char* const text = std::getenv("TENURE_DAEMON_KILLS");
  return text == nullptr ? 100 : std::atoi(text);
}

void PrintSpread(const char* what, std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) {
    return samples[static_cast<size_t>(share * static_cast<double>(samples.size() - 1))];
  };
  std::printf("figure: %s: p50 %.0f, p99 %.0f, longest %.0f, of %zu\n", what, at(0.5), at(0.99),
              samples.back(), samples.size());
}

TEST(DaemonDeathTest, KernelsRunOnAndLeasesStay) {
  constexpr size_t kClients = 3;
  KeptDaemon daemon({}, "8GiB");
  std::deque<LeaseClientProcess> clients;
  while (clients.size() < kClients) {
    clients.push_back(LeaseClientProcess(
        {"count", daemon.socket(), std::to_string(MiB(16).value())}, "kernel_client"));
  }
  for (LeaseClientProcess& client : clients) ASSERT_EQ(client.ReadLine(), "counting");
  std::mt19937 random(20261125);
  std::vector<double> away;
  for (int death = 0; death < Deaths(); ++death) {
    // The wait makes the time of the kill random.
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
    const auto killed = std::chrono::steady_clock::now();
    ASSERT_TRUE(daemon.KillAndAwaitNext());
    away.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - killed)
            .count());
    ASSERT_EQ(daemon.ListAllocations().size(), kClients);
    ASSERT_GE(daemon.GetStats().leased_bytes(), kClients * MiB(16).value());
  }
  PrintSpread("from SIGKILL to serving again, in ms", away);
  for (LeaseClientProcess& client : clients) {
    ASSERT_EQ(kill(client.pid(), SIGTERM), 0);
    std::printf("figure: a client ran %s kernels\n", client.ReadLine().c_str());
    EXPECT_EQ(client.WaitForEnd(), 0);
  }
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().leased_bytes() == 0; }));
}

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// TENURE_WEIGHTS, such as 32GiB.
Bytes WeightsSize() {
  const char* const text = std::getenv("TENURE_WEIGHTS");
  return text == nullptr ? GiB(32) : *ParseBytes(text);
}

Client Connect(const std::string& socket) {
  ConnectOptions options;
  options.socket = socket;
  options.memory_kind = MemoryKind::kVmmFd;
  absl::StatusOr<Client> client = Client::Connect(options);
  EXPECT_TRUE(client.ok()) << client.status();
  return *std::move(client);
}

// Weights in which every piece differs, so that a piece at the wrong place is noticed.
SegmentContents LoadWeights(Client& client, Bytes size) {
  SegmentContents contents;
  AllocateOptions direct;
  direct.placement = Placement::kDirect;
  absl::StatusOr<DeviceBuffer> block = client.Allocate(size, direct);
  EXPECT_TRUE(block.ok()) << block.status();
  contents.blocks.push_back(*std::move(block));
  const std::vector<Bytes> sizes = {size};
  absl::StatusOr<std::string> digest =
      DigestOf(sizes, [&](const DigestPiece& piece, char* to) -> absl::Status {
        uint64_t word = piece.offset.value() * 0x9e3779b97f4a7c15;
        for (uint64_t at = 0; at < piece.size.value(); at += sizeof word) {
          std::memcpy(to + at, &word, sizeof word);
          word += 0x9e3779b97f4a7c15;
        }
        return contents.blocks.front().CopyFromHost(to, piece.size, piece.offset);
      });
  EXPECT_TRUE(digest.ok()) << digest.status();
  contents.digest = *std::move(digest);
  return contents;
}

TEST(DaemonDeathTest, WeightsOutliveTheirPublisherAndTheDaemon) {
  KeptDaemon daemon({}, "8GiB");
  const Bytes size = WeightsSize();
  {
    Client publisher = Connect(daemon.socket());
    const auto start = std::chrono::steady_clock::now();
    SegmentContents contents = LoadWeights(publisher, size);
    std::printf("figure: %s made, digested and copied to the device in %.0f ms\n",
                FormatBytes(size).c_str(), MillisecondsSince(start));
    const absl::StatusOr<Segment> segment = publisher.Publish("weights", std::move(contents));
    ASSERT_TRUE(segment.ok()) << segment.status();
    EXPECT_TRUE(segment->survives_daemon());
  }
  std::vector<double> away;
  for (int death = 0; death < 5; ++death) {
    const auto killed = std::chrono::steady_clock::now();
    ASSERT_TRUE(daemon.KillAndAwaitNext());
    away.push_back(MillisecondsSince(killed));
  }
  PrintSpread("the same with the weights to restore, in ms", away);
  Client reader = Connect(daemon.socket());
  std::vector<double> attach;
  for (int i = 0; i < 50; ++i) {
    const auto start = std::chrono::steady_clock::now();
    absl::StatusOr<Segment> segment = reader.Attach("weights");
    const double took = MillisecondsSince(start);
    ASSERT_TRUE(segment.ok()) << segment.status();
    attach.push_back(took * 1000);
    ASSERT_TRUE(segment->Detach().ok());
  }
  PrintSpread("attach to them, in us", attach);
  absl::StatusOr<Segment> segment = reader.Attach("weights");
  ASSERT_TRUE(segment.ok()) << segment.status();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(segment->Verify().ok());
  std::printf("figure: read back and verified in %.0f ms\n", MillisecondsSince(start));
  ASSERT_TRUE(segment->Detach().ok());
  EXPECT_TRUE(reader.Unpublish("weights").ok());
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().leased_bytes() == 0; }));
}

}  // namespace
}  // namespace tenure::testing
