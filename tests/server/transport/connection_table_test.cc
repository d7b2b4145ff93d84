// How many connections and requests a tenant may have, and which process a connection belongs to.

#include "server/transport/connection_table.h"

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/server/transport/http2_frames.h"
#include "tests/server/transport/socket_pair.h"
#include "tests/support/manual_clock.h"

namespace tenure::server {
namespace {

constexpr uid_t kUser = 1000;

std::shared_ptr<const Peer> PeerOf(pid_t pid, uid_t uid = kUser) {
  return Peer::Imagined(UniqueFd(), ProcessKey{pid, 1}, uid);
}

class ConnectionTableTest : public ::testing::Test {
 protected:
  ConnectionTable& Make(ConnectionTable::Options options) {
    options.on_cut = [this](const Connection& connection, const absl::Status& why) {
      cuts_.emplace_back(connection.socket(), why);
    };
    table_ = std::make_unique<ConnectionTable>(clock_, std::move(options));
    return *table_;
  }
  void Add(int socket, ConnectionTable::Caller caller) {
    absl::StatusOr<ConnectionPermit> permit = table_->Permit(kUser);
    ASSERT_TRUE(permit.ok()) << permit.status();
    EXPECT_TRUE(table_->Add(socket, std::move(caller), *std::move(permit)));
  }
  // A read that brings these bytes of this process.
  absl::Status Read(int socket, std::string bytes, pid_t pid) {
    const ucred writer = {pid, kUser, kUser};
    const iovec buffer = {bytes.data(), bytes.size()};
    return table_->FindBySocket(socket)->OnRead({&buffer, 1}, bytes.size(), &writer, clock_.Now());
  }
  // How many requests this process can reset on a new connection before the daemon refuses it.
  int CountResets(int socket, pid_t pid) {
    Add(socket, PeerOf(pid));
    EXPECT_TRUE(Read(socket, Opening(), pid).ok());
    int resets = 0;
    for (uint32_t stream = 1; Read(socket, ResetCall(stream), pid).ok(); stream += 2) ++resets;
    table_->Remove(socket);
    return resets;
  }

  testing::ManualClock clock_;
  std::vector<std::pair<int, absl::Status>> cuts_;
  std::unique_ptr<ConnectionTable> table_;
};

TEST_F(ConnectionTableTest, ATenantHasOnlySoManyConnectionsAndGetsRoomWhenOneEnds) {
  ConnectionTable& table = Make({.max_tenant_connections = 2});
  std::deque<absl::StatusOr<ConnectionPermit>> permits;
  for (int i = 0; i < 2; ++i) permits.push_back(table.Permit(kUser));
  ASSERT_TRUE(permits[0].ok() && permits[1].ok());
  const absl::Status refused = table.Permit(kUser).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_NE(std::string(refused.message()).find("--max-tenant-connections"), std::string::npos);
  EXPECT_TRUE(table.Permit(kUser + 1).ok()) << "another tenant has its own limit";
  permits.pop_back();
  EXPECT_TRUE(table.Permit(kUser).ok());
}

TEST_F(ConnectionTableTest, ConnectionsAndTheirProcessesLeaveTheDaemonDescriptorsForItself) {
  ConnectionTable& table = Make({.max_descriptors = 132});
  std::vector<absl::StatusOr<ConnectionPermit>> permits;
  while (permits.size() < 100) {
    absl::StatusOr<ConnectionPermit> permit = table.Permit(static_cast<uid_t>(permits.size()));
    if (!permit.ok()) break;
    permits.push_back(std::move(permit));
  }
  EXPECT_EQ(permits.size(), 4u) << "connections alone";
  permits.clear();
  Add(5, PeerOf(1));
  Add(6, PeerOf(2));
  EXPECT_TRUE(absl::IsResourceExhausted(table.Permit(kUser).status())) << "two and their pidfds";
}

TEST_F(ConnectionTableTest, ASocketsNumberIsNoMatterOfHowManyThereMayBe) {
  // Other files may hold the low numbers.
  ConnectionTable& table = Make({.descriptors = 1000, .max_descriptors = 200});
  Add(999, PeerOf(1));
  EXPECT_NE(table.FindBySocket(999), nullptr);
  absl::StatusOr<ConnectionPermit> permit = table.Permit(kUser);
  ASSERT_TRUE(permit.ok()) << permit.status();
  EXPECT_FALSE(table.Add(1000, PeerOf(2), *std::move(permit))) << "refused, and no reason to abort";
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(ConnectionTableTest, TheCallerIsFoundByTheNameThatGrpcGivesItsConnection) {
  ConnectionTable& table = Make({});
  const std::shared_ptr<const Peer> peer = PeerOf(1);
  Add(5, peer);
  const ConnectionTable::Caller caller = table.Find("fd:5");
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(*caller, peer);
  for (const char* unknown : {"fd:6", "fd:", "fd:5x", "unix:/tmp/a", ""}) {
    EXPECT_TRUE(absl::IsInternal(table.Find(unknown).status())) << unknown;
  }
  table.Remove(5);
  EXPECT_TRUE(absl::IsInternal(table.Find("fd:5").status()));
  EXPECT_EQ(table.FindBySocket(5), nullptr);
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(ConnectionTableTest, ARefusedCallerGetsItsOwnErrorForEachRequest) {
  ConnectionTable& table = Make({.tenant_requests_per_second = 1});
  Add(5, absl::PermissionDeniedError("not for you"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(absl::IsPermissionDenied(table.Find("fd:5").status()));
  }
}

TEST_F(ConnectionTableTest, AProcessIsConnectedUntilItsLastConnectionEnds) {
  ConnectionTable& table = Make({});
  Add(5, PeerOf(1));
  Add(6, PeerOf(1));
  EXPECT_EQ(*table.Find("fd:5"), *table.Find("fd:6")) << "one Peer, and so one pidfd";
  table.Remove(5);
  table.Remove(77);  // no connection
  EXPECT_TRUE(table.IsConnected(ProcessKey{1, 1}));
  EXPECT_FALSE(table.IsConnected(ProcessKey{1, 2})) << "another process with that pid";
  table.Remove(6);
  EXPECT_FALSE(table.IsConnected(ProcessKey{1, 1}));
}

TEST_F(ConnectionTableTest, AProcessThatBecameAnotherUserIsThatUserOnItsNextConnection) {
  ConnectionTable& table = Make({});
  Add(5, PeerOf(1, kUser));
  Add(6, PeerOf(1, kUser + 1));
  EXPECT_EQ((*table.Find("fd:5"))->uid(), kUser);
  EXPECT_EQ((*table.Find("fd:6"))->uid(), kUser + 1);
}

TEST_F(ConnectionTableTest, ATenantMakesOnlySoManyRequestsASecondOverAllItsConnections) {
  ConnectionTable& table = Make({.tenant_requests_per_second = 4});
  Add(5, PeerOf(1));
  Add(6, PeerOf(2));
  for (const char* connection : {"fd:5", "fd:6", "fd:5", "fd:6"}) {
    EXPECT_TRUE(table.Find(connection).ok());
  }
  const absl::Status refused = table.Find("fd:5").status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_NE(std::string(refused.message()).find("--max-tenant-requests"), std::string::npos);
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(table.Find("fd:6").ok());
}

TEST_F(ConnectionTableTest, APrepaidRequestIsNotRefusedAndOneThatWasNotCutsBeyondTheRate) {
  ConnectionTable& table = Make({.tenant_requests_per_second = 1});
  Add(5, PeerOf(1));
  EXPECT_TRUE(table.Find("fd:5").ok());
  EXPECT_TRUE(table.FindPrepaid("fd:5").ok()) << "the second within a second";
  EXPECT_TRUE(cuts_.empty());
  table.ChargeLater("fd:5");
  ASSERT_EQ(cuts_.size(), 1u);
  EXPECT_TRUE(absl::IsResourceExhausted(cuts_.front().second));
}

TEST_F(ConnectionTableTest, ResetsAreCountedForTheProcessAndNotForTheConnection) {
  Make({});
  EXPECT_GE(CountResets(5, /*pid=*/1), 64);
  EXPECT_EQ(CountResets(6, /*pid=*/1), 0) << "on its next connection";
  EXPECT_GE(CountResets(7, /*pid=*/2), 64) << "another process of the same tenant";
  table_->CutStuck();
  EXPECT_EQ(CountResets(8, /*pid=*/1), 0) << "the count outlives the connections";
  clock_.Advance(absl::Seconds(10));
  table_->CutStuck();
  EXPECT_GE(CountResets(9, /*pid=*/1), 64);
}

TEST_F(ConnectionTableTest, AConnectionThatIsCutIsCountedAndReported) {
  ConnectionTable& table = Make({});
  const SocketPair sockets;
  Add(sockets.daemon.get(), PeerOf(1));
  table.Cut(*table.FindBySocket(sockets.daemon.get()), absl::InvalidArgumentError("a reason"));
  EXPECT_TRUE(sockets.IsCut());
  EXPECT_EQ(table.cut(), 1u);
  ASSERT_EQ(cuts_.size(), 1u);
  EXPECT_EQ(cuts_[0].first, sockets.daemon.get());
  EXPECT_EQ(cuts_[0].second, absl::InvalidArgumentError("a reason"));
}

TEST_F(ConnectionTableTest, OnlyConnectionsThatStayFullForTooLongAreCut) {
  ConnectionTable& table = Make({.patience = absl::Seconds(1)});
  const SocketPair full;
  const SocketPair busy;
  Add(full.daemon.get(), PeerOf(1));
  Add(busy.daemon.get(), PeerOf(2));
  table.FindBySocket(full.daemon.get())->OnWritten(/*all=*/false, clock_.Now());
  clock_.Advance(absl::Milliseconds(999));
  table.CutStuck();
  EXPECT_FALSE(full.IsCut());
  clock_.Advance(absl::Milliseconds(1));
  table.CutStuck();
  EXPECT_TRUE(full.IsCut());
  EXPECT_FALSE(busy.IsCut());
  EXPECT_EQ(table.cut(), 1u);
}

}  // namespace
}  // namespace tenure::server
