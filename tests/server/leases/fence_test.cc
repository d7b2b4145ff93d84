// When the regions of the dead may serve again.

#include "server/leases/fence.h"

#include <memory>

#include "tests/server/leases/core_fixture.h"

namespace tenure::server {
namespace {

class FenceTest : public CoreTest {};

TEST_F(FenceTest, ALeaseIsScrubbedWithTheLastOfItsRegions) {
  ClientProcess client;
  const SessionId session = Open(client);
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  const std::shared_ptr<const Lease> lease = registry_->FindLease(session);
  client.Kill();
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
  fence_->Poll();
  EXPECT_EQ(lease->state(), LeaseState::kFenced);
  EXPECT_EQ(heap_.waiting(), MiB(8));
  ASSERT_TRUE(heap_.MaintainOnce());
  EXPECT_EQ(lease->state(), LeaseState::kFenced) << "one of two regions is cleared";
  ASSERT_TRUE(heap_.MaintainOnce());
  EXPECT_EQ(lease->state(), LeaseState::kScrubbed);
  EXPECT_EQ(heap_.waiting(), Bytes(0));
}

}  // namespace
}  // namespace tenure::server
