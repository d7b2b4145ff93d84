// Clients die, fork and fault while their kernels write. No other memory is touched, and their own
// memory is granted again only after the kernels have ended and it is cleared. Needs a GPU.
// TENURE_KERNEL_KILLS is the number of kills.

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <httplib.h>

#include "client/client.h"
#include "common/bytes.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

constexpr int kPort = 19455;

int Kills() {
  const char* const text = std::getenv("TENURE_KERNEL_KILLS");
  return text == nullptr ? 300 : std::atoi(text);
}

// The number of clients that run at once. They are killed one at a time, so the kernels of the
// others share the GPU with the daemon's clearing. With 1, the clearing has the GPU alone.
size_t KernelsAtOnce() {
  const char* const text = std::getenv("TENURE_KERNELS_AT_ONCE");
  return text == nullptr ? 6 : static_cast<size_t>(std::atoi(text));
}

class KernelFaultTest : public ::testing::Test {
 protected:
  KernelFaultTest()
      : daemon_(TestDaemon::Options{.flags = {"--http", "127.0.0.1:" + std::to_string(kPort)},
                                    .memory = "8GiB"}) {
    ConnectOptions options;
    options.socket = daemon_.socket();
    absl::StatusOr<Client> client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status();
    client_.emplace(*std::move(client));
    start_ = daemon_.GetStats();
  }

  LeaseClientProcess Start(const std::string& what, Bytes size) {
    return LeaseClientProcess({what, daemon_.socket(), std::to_string(size.value())},
                              "kernel_client");
  }
  bool Quarantined(pid_t pid) {
    const v1::ListSessionsResponse list = daemon_.ListSessions();
    return std::any_of(
        list.quarantines().begin(), list.quarantines().end(),
        [pid](const v1::Quarantine& one) { return one.pid() == static_cast<uint32_t>(pid); });
  }
  // A new owner of memory finds zeros, and no kernel writes into it.
  void ExpectCleanGrant(Bytes size) {
    absl::StatusOr<DeviceBuffer> buffer = client_->Allocate(size);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    for (int look = 0; look < 2; ++look) {
      std::vector<uint64_t> words(size.value() / sizeof(uint64_t), 1);
      ASSERT_TRUE(buffer->CopyToHost(words.data(), size).ok());
      ASSERT_TRUE(std::all_of(words.begin(), words.end(), [](uint64_t word) { return word == 0; }))
          << "foreign bytes, at look " << look;
    }
    ASSERT_TRUE(buffer->Release().ok());
  }
  // The daemon holds this test's own session only, and the memory of other programs is as before.
  void ExpectNothingRetained() {
    client_.reset();
    EXPECT_TRUE(Eventually([&] {
      const v1::GetStatsResponse now = daemon_.GetStats();
      return now.leased_bytes() == 0 && now.quarantined_bytes() == 0 && now.active_sessions() == 0;
    })) << daemon_.ListSessions().DebugString();
    const v1::GetStatsResponse now = daemon_.GetStats();
    EXPECT_EQ(now.total_bytes(),
              now.driver_free_bytes() + now.reserved_bytes() + now.other_bytes());
    // Beside this process's own context the driver keeps a few MiB for page tables.
    EXPECT_LE(now.other_bytes(), start_.other_bytes() + now.total_bytes() / 1000);
    EXPECT_EQ(daemon_.Stop(), 0);
  }
  // The daemon's own figures, for the record.
  void PrintFigures() {
    httplib::Client http("127.0.0.1", kPort);
    const httplib::Result page = http.Get("/metrics");
    ASSERT_TRUE(page);
    std::istringstream lines(page->body);
    for (std::string line; std::getline(lines, line);) {
      for (const char* name :
           {"tenure_quarantine_duration", "tenure_reclaim_duration", "tenure_scrub_duration"}) {
        if (line.rfind(name, 0) == 0) std::printf("figure: %s\n", line.c_str());
      }
    }
  }

  TestDaemon daemon_;
  std::optional<Client> client_;
  v1::GetStatsResponse start_;
};

TEST_F(KernelFaultTest, KilledClientsKernelsWriteIntoNoOtherClientsMemory) {
  const size_t at_once = KernelsAtOnce();
  std::mt19937_64 random(20261124);
  std::deque<LeaseClientProcess> clients;
  for (int kills = 0; kills < Kills();) {
    while (clients.size() < at_once) {
      clients.push_back(Start("write", MiB(2 << (random() % 6))));
    }
    // All clients start at the same time. The test waits for the first, and then for a random time.
    ASSERT_EQ(clients.front().ReadLine(), "writing");
    // The wait makes the time of the kill random.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5'000));
    ASSERT_EQ(clients.front().Kill(), 128 + SIGKILL);
    clients.pop_front();
    ++kills;
    ASSERT_NO_FATAL_FAILURE(ExpectCleanGrant(MiB(2 << (random() % 6))));
  }
  for (LeaseClientProcess& client : clients) client.Kill();
  PrintFigures();
  ExpectNothingRetained();
}

TEST_F(KernelFaultTest, ASurvivingChildsParentsKernelIsFencedUntilTheChildEnds) {
  for (int i = 0; i < 20; ++i) {
    LeaseClientProcess parent = Start("clone", MiB(32));
    const std::string line = parent.ReadLine();
    ASSERT_EQ(line.substr(0, 7), "forked ");
    const pid_t pid = parent.pid();
    ASSERT_EQ(parent.Kill(), 128 + SIGKILL);
    ASSERT_TRUE(Eventually([&] { return Quarantined(pid); }));
    ASSERT_NO_FATAL_FAILURE(ExpectCleanGrant(MiB(32)));
    ASSERT_TRUE(Quarantined(pid)) << "it came back while its kernel runs";
    ASSERT_EQ(kill(std::stoi(line.substr(7)), SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] { return !Quarantined(pid); }));
    ASSERT_NO_FATAL_FAILURE(ExpectCleanGrant(MiB(32)));
  }
  ExpectNothingRetained();
}

TEST_F(KernelFaultTest, AClientsForkedChildClosesTheDeviceFilesSoThatItsParentsKernelsEnd) {
  for (int i = 0; i < 5; ++i) {
    LeaseClientProcess parent = Start("fork", MiB(32));
    const std::string line = parent.ReadLine();
    ASSERT_EQ(line.substr(0, 7), "forked ");
    ASSERT_EQ(parent.Kill(), 128 + SIGKILL);
    ASSERT_TRUE(Eventually([&] {
      return daemon_.GetStats().active_sessions() == 1 &&
             daemon_.GetStats().quarantined_bytes() == 0;
    }));
    ASSERT_NO_FATAL_FAILURE(ExpectCleanGrant(MiB(32)));
    ASSERT_EQ(kill(std::stoi(line.substr(7)), SIGKILL), 0) << "the child lives";
  }
  ExpectNothingRetained();
}

TEST_F(KernelFaultTest, AnIllegalAccessHarmsItsOwnProcessOnly) {
  DeviceBuffer buffer = *client_->Allocate(MiB(8));
  const std::vector<char> bytes(MiB(8).value(), 'x');
  ASSERT_TRUE(buffer.CopyFromHost(bytes.data(), MiB(8)).ok());
  {
    LeaseClientProcess faulty = Start("fault", MiB(8));
    ASSERT_EQ(faulty.ReadLine(), "faulted");
    EXPECT_EQ(daemon_.GetStats().health(), "SERVING");
    EXPECT_EQ(faulty.Kill(), 128 + SIGKILL);
  }
  std::vector<char> read(bytes.size());
  ASSERT_TRUE(buffer.CopyToHost(read.data(), MiB(8)).ok());
  EXPECT_EQ(read, bytes);
  ASSERT_TRUE(Eventually([&] { return daemon_.GetStats().quarantined_bytes() == 0; }));
  ASSERT_NO_FATAL_FAILURE(ExpectCleanGrant(MiB(8)));
  ASSERT_TRUE(buffer.Release().ok());
  ExpectNothingRetained();
}

TEST_F(KernelFaultTest, AFullDeviceRefusesInWordsAndServesOn) {
  std::vector<DeviceBuffer> all;
  absl::Status refused;
  for (const Bytes size : {GiB(4), MiB(256), MiB(16)}) {
    while (true) {
      absl::StatusOr<DeviceBuffer> buffer = client_->Allocate(size);
      if (!buffer.ok()) {
        refused = buffer.status();
        break;
      }
      all.push_back(*std::move(buffer));
    }
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  }
  EXPECT_NE(std::string(refused.message()).find("would have to be freed"), std::string::npos)
      << refused;
  EXPECT_EQ(daemon_.GetStats().health(), "SERVING");
  all.clear();
  ASSERT_TRUE(client_->Flush().ok());
  ASSERT_NO_FATAL_FAILURE(ExpectCleanGrant(MiB(64)));
  ExpectNothingRetained();
}

}  // namespace
}  // namespace tenure::testing
