// Starts that fail between two lives of the daemon: whatever the reason is, the start after it
// finds all memory that was kept.

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "common/bytes.h"
#include "common/limits.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

int Count(const std::string& text, const std::string& words) {
  int count = 0;
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1))
    ++count;
  return count;
}

// The log, the config file and the driver's faults of the daemon. They exist before it.
class Files {
 public:
  Files() { std::ofstream(config()) << "lease-ttl=1s\n"; }
  ~Files() {
    for (const std::string& path : {log(), config(), faults()}) unlink(path.c_str());
  }
  std::string log() const { return absl::StrCat(base_, ".log"); }
  std::string config() const { return absl::StrCat(base_, ".conf"); }
  std::string faults() const { return absl::StrCat(base_, ".faults"); }

 private:
  const std::string base_ = absl::StrCat(::testing::TempDir(), "/failing-start-", getpid());
};

struct FailingStart {
  const char* name;
  // Breaks the next starts, and makes them whole again.
  std::function<void(const Files&)> spoil;
  std::function<void(const Files&)> repair;
  int exit_code;
};

void PrintTo(const FailingStart& start, std::ostream* out) { *out << start.name; }

void FaultsAre(const Files& files, const std::string& faults) {
  std::ofstream(files.faults()) << faults << "\n";
}

FailingStart WithFaults(const char* name, const std::string& faults) {
  return {name, [faults](const Files& files) { FaultsAre(files, faults); },
          [](const Files& files) { unlink(files.faults().c_str()); }, 70};
}

FailingStart WithConfig(const char* name, const std::string& config) {
  return {name, [config](const Files& files) { std::ofstream(files.config()) << config; },
          [](const Files& files) { std::ofstream(files.config()) << "lease-ttl=1s\n"; }, 75};
}

class FailingStartTest : public ::testing::TestWithParam<FailingStart> {
 protected:
  // Spoils or repairs while no daemon starts: the keeper is stopped until it is done.
  void WhileNoneStarts(const std::function<void(const Files&)>& change) {
    ASSERT_EQ(kill(daemon_.keeper_pid(), SIGSTOP), 0);
    change(files_);
    ASSERT_EQ(kill(daemon_.keeper_pid(), SIGCONT), 0);
  }

  const Files files_;
  KeptDaemon daemon_{TestDaemon::Options{
      .flags = {"--config", files_.config()},
      .environment = {absl::StrCat("TENURE_EMULATED_FAULTS=@", files_.faults()),
                      "TENURE_EMULATED_DEVICES=2"},
      .wrapper = {"/bin/sh", "-c", absl::StrCat("exec \"$0\" \"$@\" 2>", files_.log())},
      .memory = "1GiB"}};
};

TEST_P(FailingStartTest, LosesNothingThatWasKept) {
  if (OnRealDevice()) GTEST_SKIP() << "a real driver does not fail on demand";
  absl::StatusOr<Client> client =
      Client::Connect({.socket = daemon_.socket(), .memory_kind = MemoryKind::kVmmFd});
  ASSERT_TRUE(client.ok()) << client.status();
  absl::StatusOr<DeviceBuffer> buffer = client->Allocate(MiB(5));
  absl::StatusOr<DeviceBuffer> weights =
      client->Allocate(MiB(4), {.placement = Placement::kDirect});
  ASSERT_TRUE(buffer.ok() && weights.ok());
  const std::vector<char> bytes(MiB(4).value(), 'w');
  ASSERT_TRUE(weights->CopyFromHost(bytes.data(), MiB(4)).ok());
  SegmentContents contents;
  contents.blocks.push_back(*std::move(weights));
  contents.digest = std::string(kDigestBytes, 'd');
  const absl::StatusOr<Segment> segment = client->Publish("weights", std::move(contents));
  ASSERT_TRUE(segment.ok()) << segment.status();
  const std::string journal = ReadFile(JournalOf(daemon_));

  const pid_t before = daemon_.daemon_pid();
  WhileNoneStarts(GetParam().spoil);
  ASSERT_EQ(kill(before, SIGKILL), 0);
  // More than one start fails: neither the first failure nor a later one gives anything up.
  const std::string ended = absl::StrCat("ended with ", GetParam().exit_code);
  ASSERT_TRUE(Eventually([&] { return Count(ReadFile(files_.log()), ended) >= 3; }))
      << ReadFile(files_.log());
  // Sessions and segments as they were. The lives that failed late have added their epochs.
  EXPECT_TRUE(absl::StartsWith(ReadFile(JournalOf(daemon_)), journal));

  WhileNoneStarts(GetParam().repair);
  ASSERT_TRUE(daemon_.AwaitNext(before)) << ReadFile(files_.log());
  EXPECT_EQ(daemon_.ListAllocations().size(), 1u);
  EXPECT_EQ(daemon_.GetStats().segments(), 1u);
  EXPECT_EQ(daemon_.GetStats().survival().recovered().lost_regions(), 0u);
  EXPECT_TRUE(buffer->Release().ok()) << "the session lives";
  absl::StatusOr<Client> other = Client::Connect({.socket = daemon_.socket()});
  ASSERT_TRUE(other.ok()) << other.status();
  const absl::StatusOr<Segment> attached = other->Attach("weights");
  ASSERT_TRUE(attached.ok()) << attached.status();
  std::vector<char> read(MiB(4).value());
  ASSERT_TRUE(
      other->device().CopyToHost(read.data(), attached->blocks().front().pointer, MiB(4)).ok());
  EXPECT_EQ(read, bytes);
}

INSTANTIATE_TEST_SUITE_P(
    Reasons, FailingStartTest,
    ::testing::Values(WithFaults("ImportLostContext", "cuMemImportFromShareableHandle:1+=719"),
                      WithFaults("ImportRefusesEverything",
                                 "cuMemImportFromShareableHandle:1+=999"),
                      WithFaults("SecondImportFindsNoRoom", "cuMemImportFromShareableHandle:2+=2"),
                      WithFaults("AccessFindsNoRoom", "cuMemSetAccess:1+=2"),
                      WithFaults("AccessLostContext", "cuMemSetAccess:2=719"),
                      WithConfig("MisspeltFlagInTheFile", "lease-tll=1s\n"),
                      WithConfig("ValueOutOfRange", "lease-ttl=1s\nmax-pool-block=8MiB\n"),
                      WithConfig("AnotherDevice", "lease-ttl=1s\ndevice=1\n")),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace tenure::testing
