// Regions that stay in quarantine are reported.

#include "server/report/quarantine_watch.h"

#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "tests/server/leases/core_fixture.h"

namespace tenure::server {
namespace {

class QuarantineWatchTest : public CoreTest {
 protected:
  // A client that held memory has died, as far as the registry knows.
  void Reclaim(const ClientProcess& client) {
    TENURE_CHECK(Allocate(client, Open(client), MiB(4)).ok());
    TENURE_CHECK(registry_->Reclaim(client.peer()->key()) == 1);
  }

  std::vector<SessionId> reported_;
  QuarantineWatch watch_{*quarantine_, clock_,
                         [this](const QuarantineInfo& info) { reported_.push_back(info.session); }};
};

TEST_F(QuarantineWatchTest, ASessionIsReportedOnceAndAfterTenSeconds) {
  ClientProcess client;
  Reclaim(client);
  watch_.Maintain();
  EXPECT_TRUE(reported_.empty());
  clock_.Advance(absl::Seconds(11));
  watch_.Maintain();
  EXPECT_EQ(reported_.size(), 1u);
  clock_.Advance(absl::Hours(1));
  watch_.Maintain();
  EXPECT_EQ(reported_.size(), 1u);
  client.Kill();
  fence_->Poll();
  Maintain();
}

TEST_F(QuarantineWatchTest, OfManySessionsFiveAreReportedAtATime) {
  std::vector<std::unique_ptr<ClientProcess>> clients;
  for (int i = 0; i < 7; ++i) {
    clients.push_back(std::make_unique<ClientProcess>());
    Reclaim(*clients.back());
  }
  clock_.Advance(absl::Seconds(11));
  watch_.Maintain();
  EXPECT_EQ(reported_.size(), 5u);
  watch_.Maintain();
  EXPECT_EQ(reported_.size(), 5u) << "the next look is five seconds later";
  clock_.Advance(absl::Seconds(5));
  watch_.Maintain();
  EXPECT_EQ(reported_.size(), 7u);
  for (const auto& client : clients) client->Kill();
  fence_->Poll();
  Maintain();
}

}  // namespace
}  // namespace tenure::server
