// The sessions and the memory that clients keep when the daemon is killed and started again.

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "common/bytes.h"
#include "tests/support/kept_daemon.h"
#include "tests/support/lease_client_process.h"
#include "tests/support/raw_session.h"

namespace tenure::testing {
namespace {

std::vector<char> Pattern(Bytes size, char seed) {
  std::vector<char> bytes(size.value());
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(static_cast<size_t>(seed) + i * 31 % 251);
  return bytes;
}

std::vector<char> ContentsOf(const DeviceBuffer& buffer) {
  std::vector<char> bytes(buffer.requested().value());
  EXPECT_TRUE(buffer.CopyToHost(bytes.data(), buffer.requested()).ok());
  return bytes;
}

class SurvivalTest : public ::testing::Test {
 protected:
  Client Connect(MemoryKind kind) {
    ConnectOptions options;
    options.socket = daemon_.socket();
    options.memory_kind = kind;
    options.on_lost = [this](const absl::Status& why) {
      lost_ = why;
      is_lost_.Notify();
    };
    options.on_restart = [this](uint64_t lost_blocks) {
      lost_blocks_ += lost_blocks;
      ++restarts_;
    };
    absl::StatusOr<Client> client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  KeptDaemon daemon_{{"--lease-ttl", "1s"}};
  absl::Notification is_lost_;
  absl::Status lost_;
  std::atomic<uint64_t> restarts_ = 0;
  std::atomic<uint64_t> lost_blocks_ = 0;
};

TEST_F(SurvivalTest, LeasesIdsAndBytesOutliveTheDaemon) {
  Client client = Connect(MemoryKind::kVmmFd);
  absl::StatusOr<DeviceBuffer> small = client.Allocate(KiB(40));
  absl::StatusOr<DeviceBuffer> large = client.Allocate(MiB(5));
  ASSERT_TRUE(small.ok()) << small.status();
  ASSERT_TRUE(large.ok()) << large.status();
  const std::vector<char> small_bytes = Pattern(KiB(40), 3);
  const std::vector<char> large_bytes = Pattern(MiB(5), 5);
  ASSERT_TRUE(small->CopyFromHost(small_bytes.data(), KiB(40)).ok());
  ASSERT_TRUE(large->CopyFromHost(large_bytes.data(), MiB(5)).ok());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(daemon_.KillAndAwaitNext());
    EXPECT_EQ(daemon_.ListAllocations().size(), 2u) << "before the client has said a word";
    EXPECT_EQ(ContentsOf(*small), small_bytes);
    EXPECT_EQ(ContentsOf(*large), large_bytes);
    absl::StatusOr<DeviceBuffer> more = client.Allocate(KiB(40));
    ASSERT_TRUE(more.ok()) << more.status();
    EXPECT_NE(more->pointer(), small->pointer());
    EXPECT_TRUE(more->Release().ok());
    ASSERT_TRUE(Eventually([&] { return restarts_ == static_cast<uint64_t>(i) + 1; }));
  }
  EXPECT_EQ(lost_blocks_, 0u);
  EXPECT_TRUE(small->Release().ok());
  EXPECT_TRUE(large->Release().ok());
  EXPECT_TRUE(client.status().ok());
  EXPECT_TRUE(daemon_.ListAllocations().empty());
}

TEST_F(SurvivalTest, ASessionOfCudaIpcIsLostAtOnce) {
  Client client = Connect(MemoryKind::kCudaIpc);
  absl::StatusOr<DeviceBuffer> buffer = client.Allocate(KiB(40));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const std::vector<char> bytes = Pattern(KiB(40), 7);
  ASSERT_TRUE(buffer->CopyFromHost(bytes.data(), KiB(40)).ok());
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  ASSERT_TRUE(is_lost_.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_TRUE(absl::IsAborted(lost_)) << lost_;
  EXPECT_TRUE(absl::IsAborted(client.Allocate(KiB(4)).status()));
  EXPECT_EQ(ContentsOf(*buffer), bytes) << "mapped memory stays mapped";
}

TEST_F(SurvivalTest, BlocksOfCudaIpcInASessionThatSurvivesAreLost) {
  Client client = Connect(MemoryKind::kVmmFd);
  absl::StatusOr<DeviceBuffer> kept = client.Allocate(KiB(40));
  AllocateOptions ipc;
  ipc.memory_kind = MemoryKind::kCudaIpc;
  absl::StatusOr<DeviceBuffer> lost = client.Allocate(KiB(40), ipc);
  ASSERT_TRUE(kept.ok() && lost.ok());
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  ASSERT_TRUE(Eventually([&] { return restarts_ == 1; }));
  EXPECT_EQ(lost_blocks_, 1u);
  EXPECT_TRUE(absl::IsAborted(lost->Release()));
  EXPECT_TRUE(kept->Release().ok());
  EXPECT_TRUE(client.status().ok());
  EXPECT_FALSE(is_lost_.HasBeenNotified());
}

TEST_F(SurvivalTest, AClientThatDiesWhileNoDaemonRunsIsReclaimedByTheNext) {
  LeaseClientProcess client({"hold", daemon_.socket(), std::to_string(MiB(8).value()), "vmm"});
  ASSERT_EQ(client.ReadLine().substr(0, 5), "held ");
  ASSERT_EQ(daemon_.GetStats().leased_bytes(), MiB(8).value());
  const pid_t daemon = daemon_.daemon_pid();
  ASSERT_EQ(kill(daemon, SIGSTOP), 0);
  ASSERT_EQ(client.Kill(), 128 + SIGKILL);
  ASSERT_EQ(kill(daemon, SIGKILL), 0);
  ASSERT_TRUE(Eventually([&] {
    const std::optional<v1::GetStatsResponse> now = daemon_.TryGetStats();
    return now && now->leased_bytes() == 0 && now->quarantined_bytes() == 0 &&
           now->active_sessions() == 0;
  }));
}

// The journal has the quarantined regions with the ids of a dead session, whose slots are in use
// again.
TEST_F(SurvivalTest, QuarantinedRegionsAndASessionInTheSameSlotsOutliveTheDaemon) {
  LeaseClientProcess parent({"clone", daemon_.socket(), std::to_string(MiB(8).value()), "vmm"});
  const std::string line = parent.ReadLine();
  ASSERT_EQ(line.substr(0, 7), "forked ");
  const pid_t child = std::stoi(line.substr(7));
  ASSERT_EQ(parent.Kill(), 128 + SIGKILL);
  const auto quarantined = [&] { return daemon_.GetStats().quarantined_bytes(); };
  ASSERT_TRUE(Eventually([&] { return quarantined() == MiB(8).value(); }));
  Client client = Connect(MemoryKind::kVmmFd);
  absl::StatusOr<DeviceBuffer> buffer = client.Allocate(MiB(5));
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const std::vector<char> bytes = Pattern(MiB(5), 11);
  ASSERT_TRUE(buffer->CopyFromHost(bytes.data(), MiB(5)).ok());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(daemon_.KillAndAwaitNext());
    EXPECT_EQ(daemon_.ListAllocations().size(), 1u);
    EXPECT_EQ(quarantined(), MiB(8).value()) << "given back while the child lives";
    EXPECT_EQ(ContentsOf(*buffer), bytes);
  }
  ASSERT_EQ(kill(child, SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return quarantined() == 0; }));
  EXPECT_TRUE(buffer->Release().ok());
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  EXPECT_TRUE(daemon_.ListAllocations().empty());
}

TEST_F(SurvivalTest, ADaemonWhoseKeeperDiesKeepsServing) {
  RawSession session(daemon_.allocator());
  v1::AllocateRequest request = session.Request(MiB(4).value());
  request.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
  v1::Token token;
  ASSERT_TRUE(session.Send(request, &token).ok());
  const pid_t daemon = daemon_.daemon_pid();
  ASSERT_EQ(kill(daemon_.keeper_pid(), SIGKILL), 0);
  ASSERT_EQ(daemon_.WaitForEnd(), 128 + SIGKILL);
  // The region returns to the driver, although no keeper can close its copy of the descriptor.
  v1::FreeRequest free = session.FreeRequest(token.allocation_id());
  free.set_unmapped(false);
  EXPECT_TRUE(session.Send(free).ok());
  EXPECT_TRUE(Eventually([&] { return daemon_.GetStats().waiting_bytes() == 0; }));
  EXPECT_EQ(daemon_.GetStats().health(), "SERVING");
  EXPECT_TRUE(session.Allocate(MiB(4).value()).ok());
  // Memory that should outlive the daemon and cannot is not granted.
  v1::AllocateRequest again = session.Request(MiB(4).value());
  again.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
  const grpc::Status refused = session.Send(again);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_NE(refused.error_message().find("supervisor"), std::string::npos)
      << refused.error_message();
  EXPECT_EQ(daemon_.GetStats().health(), "SERVING");
  EXPECT_EQ(kill(daemon, SIGTERM), 0);
}

TEST(KeeperlessDaemonTest, SaysOnceThatItsKeeperHasEnded) {
  const std::string log = ::testing::TempDir() + "/keeperless-" + std::to_string(getpid());
  KeptDaemon daemon(TestDaemon::Options{.wrapper = {"sh", "-c", "exec \"$@\" 2>" + log, "sh"}});
  const auto times_said = [&] {
    std::ifstream file(log);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return std::vector<std::string>(
               absl::StrSplit(text, "no memory of kind VMM_FD is granted from now on"))
               .size() -
           1;
  };
  const pid_t served = daemon.daemon_pid();
  EXPECT_EQ(times_said(), 0u);
  ASSERT_EQ(kill(daemon.keeper_pid(), SIGKILL), 0);
  ASSERT_EQ(daemon.WaitForEnd(), 128 + SIGKILL);
  EXPECT_TRUE(Eventually([&] { return times_said() == 1; }));
  // The daemon checks ten times a second. Half a second later it has not logged the line again.
  const uint64_t up = daemon.GetStats().uptime_ms();
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().uptime_ms() > up + 500; }));
  EXPECT_EQ(times_said(), 1u);
  EXPECT_EQ(kill(served, SIGTERM), 0);
  std::filesystem::remove(log);
}

// The keeper starts the file that its program's name refers to by then, and that daemon restores
// from the journal.
TEST(UpgradeTest, ANewProgramUnderTheSameNameRestoresTheSessions) {
  std::string folder = ::testing::TempDir() + "/upgrade-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string program = folder + "/tenured";
  for (const char* file : {"/tenured", "/libtenure_emulated_cuda.so"}) {
    std::filesystem::copy_file(ProgramFolder() + file, folder + file);
  }
  {
    // The wrapper runs the copy instead of the tenured that the command line names.
    KeptDaemon daemon(
        TestDaemon::Options{.wrapper = {"sh", "-c", "shift; exec \"$0\" \"$@\"", program}});
    absl::StatusOr<Client> client =
        Client::Connect({.socket = daemon.socket(), .memory_kind = MemoryKind::kVmmFd});
    ASSERT_TRUE(client.ok()) << client.status();
    absl::StatusOr<DeviceBuffer> buffer = client->Allocate(MiB(5));
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    const std::vector<char> bytes = Pattern(MiB(5), 13);
    ASSERT_TRUE(buffer->CopyFromHost(bytes.data(), MiB(5)).ok());
    // The upgrade renames, as packages do. The new file is one byte longer.
    std::filesystem::copy_file(program, program + ".new");
    std::ofstream(program + ".new", std::ios::app) << '\n';
    const auto size = std::filesystem::file_size(program + ".new");
    std::filesystem::rename(program + ".new", program);
    ASSERT_TRUE(daemon.KillAndAwaitNext());
    const std::string runs = absl::StrCat("/proc/", daemon.daemon_pid(), "/exe");
    EXPECT_EQ(std::filesystem::read_symlink(runs), program);
    EXPECT_EQ(std::filesystem::file_size(runs), size);
    EXPECT_EQ(daemon.ListAllocations().size(), 1u);
    EXPECT_EQ(ContentsOf(*buffer), bytes);
    EXPECT_TRUE(buffer->Release().ok());
    EXPECT_TRUE(client->status().ok());
  }
  std::filesystem::remove_all(folder);
}

TEST_F(SurvivalTest, TheKeeperCollectsNoDescriptorsOfFreedMemory) {
  const auto descriptors = [this] {
    const std::filesystem::directory_iterator all(
        absl::StrCat("/proc/", daemon_.keeper_pid(), "/fd"));
    return std::distance(begin(all), end(all));
  };
  const auto before = descriptors();
  {
    Client client = Connect(MemoryKind::kVmmFd);
    for (int i = 0; i < 10; ++i) {
      absl::StatusOr<DeviceBuffer> buffer = client.Allocate(MiB(4));
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      if (i % 3 != 0) continue;
      ASSERT_TRUE(daemon_.KillAndAwaitNext());
    }
  }
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  EXPECT_TRUE(Eventually([&] { return descriptors() <= before; }))
      << descriptors() << " and not " << before;
}

}  // namespace
}  // namespace tenure::testing
