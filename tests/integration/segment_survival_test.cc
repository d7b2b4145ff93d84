// Segments whose daemon is killed and started again.

#include <signal.h>

#include <string>

#include <gtest/gtest.h>

#include "client/client.h"
#include "client/segment.h"
#include "common/bytes.h"
#include "tests/integration/segment_fixture.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {
namespace {

class SegmentSurvivalTest : public ::testing::Test {
 protected:
  Client Connect() {
    absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket()});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  KeptDaemon daemon_{{"--lease-ttl", "1s"}};
};

TEST_F(SegmentSurvivalTest, BytesAndAttachmentsOutliveTheDaemon) {
  Client publisher = Connect();
  Client reader = Connect();
  absl::StatusOr<Segment> mine = PublishPattern(publisher, "kept", {MiB(3), MiB(20)});
  ASSERT_TRUE(mine.ok()) << mine.status();
  EXPECT_TRUE(mine->survives_daemon());
  absl::StatusOr<Segment> theirs = reader.Attach("kept");
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  EXPECT_TRUE(theirs->survives_daemon());
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(daemon_.KillAndAwaitNext());
    EXPECT_TRUE(mine->Verify().ok());
    EXPECT_TRUE(theirs->Verify().ok());
    absl::StatusOr<Segment> again = reader.Attach("kept");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->digest(), mine->digest());
    Client newcomer = Connect();
    absl::StatusOr<Segment> fresh = newcomer.Attach("kept");
    ASSERT_TRUE(fresh.ok()) << fresh.status();
    EXPECT_TRUE(fresh->Verify().ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(newcomer.Unpublish("kept")));
  }
  EXPECT_TRUE(mine->Detach().ok());
  EXPECT_TRUE(theirs->Detach().ok());
  EXPECT_TRUE(publisher.status().ok() && reader.status().ok());
  EXPECT_TRUE(reader.Flush().ok());
  EXPECT_TRUE(Eventually([&] { return publisher.Unpublish("kept").ok(); }));
}

TEST_F(SegmentSurvivalTest, AClaimOutlivesTheDaemonAndIsPublishedAtTheNext) {
  Client client = Connect();
  const absl::StatusOr<Segment> segment = client.AttachOrLoad("mine", [&](Client& loader) {
    EXPECT_TRUE(daemon_.KillAndAwaitNext());
    Client other = Connect();
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        other
            .AttachOrLoad("mine", [](Client& loading) { return MakeContents(loading, {MiB(2)}); },
                          {.wait = absl::ZeroDuration()})
            .status()));
    return MakeContents(loader, {MiB(5)});
  });
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_TRUE(segment->Verify().ok());
}

TEST_F(SegmentSurvivalTest, AnEndOfAnAttachmentReachesTheNextDaemon) {
  Client client = Connect();
  {
    absl::StatusOr<Segment> segment = PublishPattern(client, "left", {MiB(3)});
    ASSERT_TRUE(segment.ok()) << segment.status();
    ASSERT_EQ(kill(daemon_.daemon_pid(), SIGSTOP), 0);
  }
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  EXPECT_TRUE(client.Flush().ok());
  EXPECT_TRUE(client.Unpublish("left").ok());
}

TEST_F(SegmentSurvivalTest, OfKindCudaIpcItEndsWithTheDaemon) {
  Client client = Connect();
  absl::StatusOr<Segment> segment = PublishPattern(client, "ipc", {MiB(3)}, MemoryKind::kCudaIpc);
  ASSERT_TRUE(segment.ok()) << segment.status();
  EXPECT_FALSE(segment->survives_daemon());
  ASSERT_TRUE(daemon_.KillAndAwaitNext());
  EXPECT_TRUE(segment->Verify().ok()) << "mapped memory stays mapped";
  Client next = Connect();
  EXPECT_TRUE(absl::IsNotFound(next.Attach("ipc").status()));
}

}  // namespace
}  // namespace tenure::testing
