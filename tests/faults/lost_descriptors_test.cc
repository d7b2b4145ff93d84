// Memory of kind VMM_FD whose descriptors are lost when the daemon dies: the supervisor dropped one
// of them, or ended and lost all.

#include <signal.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "client/segment.h"
#include "common/bytes.h"
#include "tests/faults/mortal_daemon.h"
#include "tests/support/journal_reading.h"

namespace tenure::testing {
namespace {

class LostDescriptorsTest : public ::testing::Test {
 protected:
  Client Connect() {
    ConnectOptions options;
    options.socket = daemon_->socket();
    options.memory_kind = MemoryKind::kVmmFd;
    options.on_lost = [this](const absl::Status&) { is_lost_.Notify(); };
    options.on_restart = [this](uint64_t blocks) {
      lost_blocks_ += blocks;
      ++restarts_;
    };
    absl::StatusOr<Client> client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  // A region of its own. The keeper gets its descriptor, or the message is lost.
  DeviceBuffer Allocate(Client& client, bool dropped) {
    if (dropped) daemon_.Arm(MortalCall::kStore, Moment::kNowhere, 1);
    absl::StatusOr<DeviceBuffer> buffer =
        client.Allocate(MiB(4), {.placement = Placement::kDirect});
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(daemon_.met(), dropped ? 1u : 0u);
    daemon_.Arm(MortalCall::kNone, Moment::kNowhere, 0);
    return *std::move(buffer);
  }

  MortalDaemon daemon_;
  absl::Notification is_lost_;
  std::atomic<uint64_t> restarts_ = 0;
  std::atomic<uint64_t> lost_blocks_ = 0;
};

TEST_F(LostDescriptorsTest, ABlockWithoutItsDescriptorIsLostAndTheOthersAreNot) {
  Client client = Connect();
  DeviceBuffer first = Allocate(client, /*dropped=*/false);
  DeviceBuffer dropped = Allocate(client, /*dropped=*/true);
  DeviceBuffer last = Allocate(client, /*dropped=*/false);
  for (uint64_t life = 1; life <= 2; ++life) {
    ASSERT_TRUE(daemon_->KillAndAwaitNext());
    EXPECT_EQ(daemon_->ListAllocations().size(), 2u);
    ASSERT_TRUE(Eventually([&] { return restarts_ == life; }));
  }
  const absl::StatusOr<server::JournalReading> reading = ReadJournalOf(*daemon_);
  ASSERT_TRUE(reading.ok()) << reading.status();
  EXPECT_EQ(reading->state.sessions().begin()->second.blocks.size(), 2u)
      << "the lost block is still in the journal";
  EXPECT_TRUE(absl::IsAborted(dropped.Release()));
  EXPECT_TRUE(first.Release().ok());
  EXPECT_TRUE(last.Release().ok());
  EXPECT_TRUE(client.status().ok());
  EXPECT_FALSE(is_lost_.HasBeenNotified());
  EXPECT_EQ(daemon_->GetStats().leased_bytes(), 0u);
}

TEST_F(LostDescriptorsTest, HalfASegmentIsNoneAndItsNameIsFree) {
  Client client = Connect();
  SegmentContents contents;
  contents.digest = std::string(32, 'd');
  contents.blocks.push_back(Allocate(client, /*dropped=*/false));
  contents.blocks.push_back(Allocate(client, /*dropped=*/true));
  absl::StatusOr<Segment> segment = client.Publish("weights", std::move(contents));
  ASSERT_TRUE(segment.ok()) << segment.status();
  ASSERT_TRUE(daemon_->KillAndAwaitNext());
  const auto segments = [this] {
    grpc::ClientContext context;
    v1::ListSegmentsResponse list;
    EXPECT_TRUE(daemon_->stats().ListSegments(&context, {}, &list).ok());
    return list.segments_size();
  };
  EXPECT_EQ(segments(), 0);
  EXPECT_EQ(daemon_->GetStats().leased_bytes(), 0u);
  SegmentContents again;
  again.digest = std::string(32, 'e');
  again.blocks.push_back(Allocate(client, /*dropped=*/false));
  absl::StatusOr<Segment> published = client.Publish("weights", std::move(again));
  ASSERT_TRUE(published.ok()) << published.status();
  ASSERT_TRUE(daemon_->KillAndAwaitNext());
  EXPECT_EQ(segments(), 1);
}

TEST_F(LostDescriptorsTest, AKeeperThatIsKilledTakesAllOfThemAlong) {
  Client client = Connect();
  DeviceBuffer block = Allocate(client, /*dropped=*/false);
  SegmentContents contents;
  contents.digest = std::string(32, 'd');
  contents.blocks.push_back(Allocate(client, /*dropped=*/false));
  absl::StatusOr<Segment> segment = client.Publish("weights", std::move(contents));
  ASSERT_TRUE(segment.ok()) << segment.status();
  const std::vector<char> bytes(MiB(4).value(), 'b');
  ASSERT_TRUE(block.CopyFromHost(bytes.data(), MiB(4)).ok());

  const pid_t daemon = daemon_->daemon_pid();
  ASSERT_EQ(kill(daemon_->keeper_pid(), SIGKILL), 0);
  ASSERT_EQ(kill(daemon, SIGKILL), 0);
  ASSERT_EQ(daemon_->WaitForEnd(), 128 + SIGKILL);
  // The next daemon finds the journal and none of the descriptors.
  const pid_t keeper = StartProgram(daemon_->command());
  ASSERT_TRUE(Eventually([&] {
    daemon_->Reconnect();
    return daemon_->TryGetStats().has_value();
  }));
  EXPECT_TRUE(daemon_->ListAllocations().empty());
  EXPECT_EQ(daemon_->GetStats().leased_bytes(), 0u);
  ASSERT_TRUE(Eventually([&] { return restarts_ > 0 || is_lost_.HasBeenNotified(); }));
  EXPECT_TRUE(absl::IsAborted(block.Release())) << "its memory is lost";
  // The session itself is in the journal. It is restored, or the client opens another.
  Client other = Connect();
  absl::StatusOr<DeviceBuffer> anew = other.Allocate(MiB(4));
  EXPECT_TRUE(anew.ok()) << anew.status();
  SegmentContents again;
  again.digest = std::string(32, 'e');
  absl::StatusOr<DeviceBuffer> weights = other.Allocate(MiB(4), {.placement = Placement::kDirect});
  ASSERT_TRUE(weights.ok()) << weights.status();
  again.blocks.push_back(*std::move(weights));
  EXPECT_TRUE(other.Publish("weights", std::move(again)).ok());
  kill(keeper, SIGTERM);
  EXPECT_EQ(WaitForExit(keeper), 0);
}

}  // namespace
}  // namespace tenure::testing
