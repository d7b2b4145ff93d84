// Sessions and leases; the test moves the clock.

#include "server/leases/lease_registry.h"

#include <vector>

#include "common/limits.h"
#include "tests/server/leases/core_fixture.h"

namespace tenure::server {
namespace {

class LeaseRegistryTest : public CoreTest {
 protected:
  SegmentKey PublishWeights(const ClientProcess& client, SessionId session) {
    const std::vector<AllocationId> blocks = {Allocate(client, session, MiB(4))->allocation};
    EXPECT_TRUE(
        registry_->Publish(*client.peer(), session, 10, "weights", blocks, SegmentNotes{}).ok());
    return SegmentKey{client.peer()->uid(), "weights"};
  }
};

TEST_F(LeaseRegistryTest, OpeningIsIdempotentByRequestIdWithinAProcess) {
  const ClientProcess client;
  const ClientProcess other;
  const SessionId first = Open(client, 1);
  EXPECT_EQ(Open(client, 1), first);
  EXPECT_NE(Open(client, 2), first);
  EXPECT_NE(Open(other, 1), first);
  EXPECT_EQ(registry_->totals().active_sessions, 3u);
}

TEST_F(LeaseRegistryTest, IdsOfAnotherProcessAreUnknown) {
  const ClientProcess owner;
  const ClientProcess stranger;
  const SessionId session = Open(owner);
  const Grant grant = *Allocate(owner, session, KiB(4));
  EXPECT_TRUE(absl::IsNotFound(registry_->KeepAlive(*stranger.peer(), session)));
  EXPECT_TRUE(absl::IsNotFound(registry_->Close(*stranger.peer(), session)));
  EXPECT_TRUE(absl::IsNotFound(Allocate(stranger, session, KiB(4)).status()));
  EXPECT_TRUE(absl::IsNotFound(Free(stranger, Open(stranger), grant.allocation)));
  EXPECT_TRUE(Free(owner, session, grant.allocation).ok());
}

TEST_F(LeaseRegistryTest, ANumberThatWasNeverAnIdIsUnknownAndNotOfAnEarlierLife) {
  const ClientProcess client;
  EXPECT_TRUE(absl::IsNotFound(registry_->KeepAlive(*client.peer(), 0)));
  EXPECT_TRUE(absl::IsNotFound(Free(client, Open(client), 0)));
}

TEST_F(LeaseRegistryTest, AnOverdueSessionKeepsItsMemoryAndComesBackByAKeepAlive) {
  const ClientProcess client;
  const SessionId session = Open(client);
  const Grant grant = *Allocate(client, session, KiB(4));
  PassTime(absl::Seconds(10));
  EXPECT_TRUE(Allocate(client, session, KiB(4)).ok()) << "the lease holds to its end";
  PassTime(absl::Milliseconds(1));
  EXPECT_TRUE(absl::IsFailedPrecondition(Allocate(client, session, KiB(4)).status()));
  PassTime(absl::Hours(24));
  EXPECT_EQ(registry_->totals().active_allocations, 2u) << "time alone takes nothing";
  EXPECT_EQ(registry_->totals().suspended_sessions, 1u);
  EXPECT_TRUE(Free(client, session, grant.allocation).ok());
  EXPECT_TRUE(registry_->KeepAlive(*client.peer(), session).ok());
  EXPECT_TRUE(Allocate(client, session, KiB(4)).ok());
}

TEST_F(LeaseRegistryTest, ATimeInWhichTheDaemonDidNotLookSuspendsNobody) {
  const ClientProcess client;
  const SessionId session = Open(client);
  PassTime(absl::Seconds(4));
  clock_.Advance(absl::Hours(24));
  EXPECT_TRUE(Allocate(client, session, KiB(4)).ok()) << "before the daemon looks again";
  registry_->SuspendOverdue();
  EXPECT_EQ(registry_->totals().active_sessions, 1u);
  EXPECT_GT(registry_->ListSessions().front().lease_left, absl::Seconds(5));
  PassTime(absl::Seconds(6));
  EXPECT_EQ(registry_->totals().suspended_sessions, 1u) << "the rest of the lease, watched";
}

TEST_F(LeaseRegistryTest, OnlyTheFreeThatEndsAnAllocationIsPrepaid) {
  const ClientProcess client;
  const SessionId session = Open(client);
  const Grant grant = *Allocate(client, session, KiB(4));
  bool prepaid = false;
  ASSERT_TRUE(registry_->Free(*client.peer(), session, 77, grant.allocation, true, &prepaid).ok());
  EXPECT_TRUE(prepaid);
  prepaid = false;
  ASSERT_TRUE(registry_->Free(*client.peer(), session, 77, grant.allocation, true, &prepaid).ok());
  EXPECT_FALSE(prepaid) << "a repetition";
}

TEST_F(LeaseRegistryTest, ASessionHasSomeKeepAlivesWithinEachLeaseTime) {
  const ClientProcess client;
  const SessionId session = Open(client);
  bool prepaid = false;
  for (size_t i = 0; i < kFreeKeepAlives; ++i) {
    ASSERT_TRUE(registry_->KeepAlive(*client.peer(), session, &prepaid).ok());
    EXPECT_TRUE(prepaid);
  }
  ASSERT_TRUE(registry_->KeepAlive(*client.peer(), session, &prepaid).ok()) << "it still renews";
  EXPECT_FALSE(prepaid);
  clock_.Advance(registry_->lease_ttl());
  ASSERT_TRUE(registry_->KeepAlive(*client.peer(), session, &prepaid).ok());
  EXPECT_TRUE(prepaid);
}

TEST_F(LeaseRegistryTest, ARequestThatIsUnderWayIsNotDoneTwice) {
  const ClientProcess client;
  const SessionId session = Open(client);
  auto admitted = registry_->Admit(*client.peer(), session, 5);
  ASSERT_TRUE(admitted.ok());
  EXPECT_TRUE(absl::IsUnavailable(registry_->Admit(*client.peer(), session, 5).status()));
  // Rolled back: the same request may be tried again, and is a new one.
  {
    const LeaseRegistry::Admission dropped =
        std::get<LeaseRegistry::Admission>(*std::move(admitted));
  }
  EXPECT_TRUE(Allocate(client, session, KiB(4), 5).ok());
}

TEST_F(LeaseRegistryTest, AFailedAllocationMayBeRepeatedWithItsRequestId) {
  const ClientProcess client;
  const SessionId session = Open(client);
  EXPECT_TRUE(absl::IsResourceExhausted(Allocate(client, session, WholeDevice(), 9).status()));
  EXPECT_TRUE(Allocate(client, session, MiB(2), 9).ok());
  EXPECT_EQ(registry_->totals().active_allocations, 1u);
}

TEST_F(LeaseRegistryTest, AnAllocationThatOutlivesItsSessionGoesBackWithIt) {
  ClientProcess client;
  const SessionId session = Open(client);
  auto admitted = registry_->Admit(*client.peer(), session, 5);
  ASSERT_TRUE(admitted.ok());
  {
    LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
    absl::StatusOr<Block> block = admission.pool().Allocate(BlockRequest{MiB(6)});
    ASSERT_TRUE(block.ok());
    client.Kill();
    EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
    EXPECT_EQ(heap_.books().leased, MiB(6)) << "the call still holds the block";
    std::vector<LeaseRegistry::Pending> pending;
    pending.push_back({std::move(admission), *std::move(block)});
    EXPECT_TRUE(absl::IsNotFound(registry_->Commit(std::move(pending)).status()));
  }
  EXPECT_EQ(heap_.books().leased, Bytes(0));
  EXPECT_EQ(heap_.books().quarantined, MiB(6)) << "it was a dead client's: it waits for proof";
  fence_->Poll();
  EXPECT_TRUE(reclaimed().empty());
  EXPECT_EQ(heap_.books().quarantined, Bytes(0));
}

TEST_F(LeaseRegistryTest, ADeadProcessLosesAllItsSessionsAndNobodyElsesAreTouched) {
  ClientProcess client;
  const ClientProcess neighbour;
  for (const uint64_t request : {1u, 2u}) {
    const SessionId session = Open(client, request);
    ASSERT_TRUE(Allocate(client, session, KiB(4)).ok());
    ASSERT_TRUE(Allocate(client, session, MiB(4)).ok());
  }
  ASSERT_TRUE(Allocate(neighbour, Open(neighbour), MiB(4)).ok());
  client.Kill();
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 2u);
  CheckBooks();
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 0u);
  EXPECT_EQ(heap_.books().quarantined, MiB(12));
  EXPECT_EQ(heap_.books().leased, MiB(4));
  EXPECT_EQ(registry_->totals().reclaimed_allocations, 4u);
}

TEST_F(LeaseRegistryTest, QuarantineEndsWithTheExitAndNotBefore) {
  ClientProcess client;
  ASSERT_TRUE(Allocate(client, Open(client), MiB(4)).ok());
  // The daemon ends the sessions of a process that is still there: nothing is proven.
  EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
  fence_->Poll();
  EXPECT_TRUE(reclaimed().empty());
  ASSERT_EQ(quarantine_->List().size(), 1u);
  EXPECT_NE(quarantine_->List()[0].reason.find("has not exited"), std::string::npos)
      << quarantine_->List()[0].reason;
  client.Kill();
  fence_->Poll();
  EXPECT_TRUE(reclaimed().empty()) << "proven, yet not cleared";
  EXPECT_FALSE(fence_->HasWaiting());
  EXPECT_EQ(heap_.books().quarantined, Bytes(0));
  ASSERT_EQ(quarantine_->List().size(), 1u);
  EXPECT_EQ(quarantine_->List()[0].lease->state(), LeaseState::kFenced);
  Maintain();
  ASSERT_EQ(reclaimed().size(), 1u);
  EXPECT_EQ(reclaimed()[0].lease->state(), LeaseState::kScrubbed);
  EXPECT_EQ(reclaimed()[0].bytes, MiB(4));
  EXPECT_TRUE(quarantine_->List().empty());
}

TEST_F(LeaseRegistryTest, ADrainingDaemonGrantsNothingNewAndTakesNothing) {
  const ClientProcess client;
  const SessionId session = Open(client);
  const Grant grant = *Allocate(client, session, KiB(4), 7);
  registry_->Drain();
  EXPECT_TRUE(absl::IsUnavailable(Allocate(client, session, KiB(4)).status()));
  EXPECT_TRUE(absl::IsUnavailable(registry_->Open(client.peer(), 99, "").status()));
  EXPECT_EQ(Allocate(client, session, KiB(4), 7)->allocation, grant.allocation)
      << "a lost reply is still answered";
  EXPECT_TRUE(registry_->KeepAlive(*client.peer(), session).ok());
  EXPECT_TRUE(Free(client, session, grant.allocation).ok());
}

TEST_F(LeaseRegistryTest, AProcessThatBecameAnotherUserIsAStranger) {
  const ClientProcess client(1000);
  const SessionId session = Open(client);
  const std::shared_ptr<const Peer> as_other =
      *Peer::OfProcess(client.peer()->pid(), /*uid=*/1001, /*gid=*/1000);
  EXPECT_EQ(as_other->key(), client.peer()->key());
  EXPECT_TRUE(absl::IsNotFound(registry_->KeepAlive(*as_other, session)));
}

TEST_F(LeaseRegistryTest, WithoutAProcessListADeadClientsRegionsGoToTheDriver) {
  Fence blind(*quarantine_, /*processes=*/nullptr);
  LeaseRegistry registry(heap_, *quarantine_, journal_, clock_,
                         LeaseRegistry::Options{.epoch = kEpoch});
  ClientProcess client;
  const SessionId session = *registry.Open(client.peer(), 1, "");
  auto admitted = registry.Admit(*client.peer(), session, 1);
  {
    LeaseRegistry::Admission admission = std::get<LeaseRegistry::Admission>(*std::move(admitted));
    absl::StatusOr<Block> block = admission.pool().Allocate(BlockRequest{MiB(6)});
    std::vector<LeaseRegistry::Pending> pending;
    pending.push_back({std::move(admission), *std::move(block)});
    ASSERT_TRUE(registry.Commit(std::move(pending)).ok());
  }
  client.Kill();
  registry.Reclaim(client.peer()->key());
  blind.Poll();
  EXPECT_EQ(reclaimed().size(), 1u);
  Maintain();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0)) << "nothing of it is kept for another grant";
}

TEST_F(LeaseRegistryTest, RegionsThatTheClientUnmappedLeaveTheSessionWhenTheyAreEmpty) {
  const ClientProcess client;
  const SessionId session = Open(client);
  std::vector<Grant> grants;
  for (int i = 0; i < 6; ++i) grants.push_back(*Allocate(client, session, MiB(1)));
  std::vector<RegionId> regions;
  for (const Grant& grant : grants) regions.push_back(grant.region);
  EXPECT_EQ(*registry_->ReleaseRegions(*client.peer(), session, regions), 0u) << "all are in use";
  for (const Grant& grant : grants) ASSERT_TRUE(Free(client, session, grant.allocation).ok());
  EXPECT_GT(*registry_->ReleaseRegions(*client.peer(), session, regions), 1u);
  EXPECT_EQ(heap_.books().leased, Bytes(0));
}

TEST_F(LeaseRegistryTest, ASuspendedSessionIsAttachedToNothingNew) {
  const ClientProcess client;
  const SessionId session = Open(client);
  const Grant block = *Allocate(client, session, MiB(4));
  const std::vector<AllocationId> blocks = {block.allocation};
  const absl::StatusOr<AttachmentId> published =
      registry_->Publish(*client.peer(), session, 10, "weights", blocks, SegmentNotes{});
  ASSERT_TRUE(published.ok()) << published.status();
  const SegmentKey key{client.peer()->uid(), "weights"};
  const auto attach = [&](uint64_t request) {
    return registry_->AttachSegment(*client.peer(), session, request, key, /*claim=*/false)
        .status();
  };
  EXPECT_TRUE(attach(11).ok());
  PassTime(registry_->lease_ttl() + absl::Seconds(1));
  EXPECT_TRUE(absl::IsFailedPrecondition(attach(12))) << attach(12);
  EXPECT_TRUE(attach(11).ok()) << "a repeated request gets its answer again";
  ASSERT_TRUE(registry_->KeepAlive(*client.peer(), session).ok());
  EXPECT_TRUE(attach(12).ok());
  CheckBooks();
}

// The numbers are beyond what one hold of the lock handles, and no multiple of it.
TEST_F(LeaseRegistryTest, ASessionWithManyHoldingsEndsWithAllOfThem) {
  const ClientProcess client;
  const ClientProcess publisher;
  const SessionId home = Open(publisher);
  const Grant weights = *Allocate(publisher, home, MiB(4));
  const std::vector<AllocationId> blocks = {weights.allocation};
  const SegmentKey key{publisher.peer()->uid(), "weights"};
  ASSERT_TRUE(
      registry_->Publish(*publisher.peer(), home, 10, "weights", blocks, SegmentNotes{}).ok());
  for (const bool dies : {false, true}) {
    const SessionId session = Open(client, dies ? 2 : 1);
    for (uint64_t i = 0; i < 1001; ++i) {
      ASSERT_TRUE(Allocate(client, session, KiB(1)).ok());
      ASSERT_TRUE(registry_->AttachSegment(*client.peer(), session, 10'000 + i, key, false).ok());
    }
    EXPECT_EQ(registry_->ListSegments().front().attached.size(), 1002u);
    ASSERT_TRUE(registry_
                    ->AttachSegment(*client.peer(), session, 9, {client.peer()->uid(), "claimed"},
                                    /*claim=*/true)
                    .ok());
    if (dies) {
      EXPECT_EQ(registry_->Reclaim(client.peer()->key()), 1u);
    } else {
      EXPECT_TRUE(registry_->Close(*client.peer(), session).ok());
    }
    CheckBooks();
    EXPECT_EQ(registry_->totals().active_allocations, 0u);
    EXPECT_EQ(registry_->totals().allocated, Bytes(0));
    EXPECT_EQ(registry_->totals().attachments, 1u) << "the publisher's own";
    EXPECT_EQ(registry_->ListSegments().size(), 1u) << "the claim has ended";
  }
}

TEST_F(LeaseRegistryTest, AForcedUnpublicationEndsAllAttachments) {
  const ClientProcess client;
  const SessionId session = Open(client);
  const SegmentKey key = PublishWeights(client, session);
  for (uint64_t i = 0; i < 1001; ++i) {
    ASSERT_TRUE(registry_->AttachSegment(*client.peer(), session, 10'000 + i, key, false).ok());
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(registry_->Unpublish(key, /*force=*/false)));
  EXPECT_TRUE(registry_->Unpublish(key, /*force=*/true).ok());
  EXPECT_EQ(registry_->totals().attachments, 0u);
  EXPECT_TRUE(absl::IsNotFound(registry_->Unpublish(key, /*force=*/true)));
  CheckBooks();
}

TEST_F(LeaseRegistryTest, AnAttachmentSharesTheDescriptionOfItsSegment) {
  const ClientProcess client;
  const SessionId session = Open(client);
  const SegmentKey key = PublishWeights(client, session);
  const auto attach = [&](uint64_t request) {
    return std::get<SegmentGrant>(
        registry_->AttachSegment(*client.peer(), session, request, key, false).value());
  };
  EXPECT_EQ(attach(11).notes, attach(12).notes) << "the same object, however many tensors it has";
}

TEST_F(LeaseRegistryTest, SessionsAreLimited) {
  LeaseRegistry small(heap_, *quarantine_, journal_, clock_,
                      LeaseRegistry::Options{.epoch = kEpoch, .max_sessions = 2});
  const ClientProcess client;
  EXPECT_TRUE(small.Open(client.peer(), 1, "").ok());
  EXPECT_TRUE(small.Open(client.peer(), 2, "").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(small.Open(client.peer(), 3, "").status()));
  small.CloseAll();
}

TEST_F(LeaseRegistryTest, ATenantsSessionsAreLimitedAndAnothersAreNot) {
  LeaseRegistry small(heap_, *quarantine_, journal_, clock_,
                      LeaseRegistry::Options{.epoch = kEpoch, .max_tenant_sessions = 1});
  const ClientProcess alice(1000);
  const ClientProcess bob(1001);
  const SessionId first = *small.Open(alice.peer(), 1, "");
  const absl::Status refused = small.Open(alice.peer(), 2, "").status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(*small.Open(alice.peer(), 1, ""), first) << "a repeated request is no new session";
  EXPECT_TRUE(small.Open(bob.peer(), 1, "").ok());
  EXPECT_TRUE(small.Close(*alice.peer(), first).ok());
  EXPECT_TRUE(small.Open(alice.peer(), 3, "").ok());
  small.CloseAll();
  small.CheckInvariants();
}

TEST_F(LeaseRegistryTest, AllocationsAreListedInPagesThatCoverAllOfThem) {
  const ClientProcess client(1000);
  const ClientProcess other(1001);
  for (int i = 0; i < 25; ++i) ASSERT_TRUE(Allocate(client, Open(client), KiB(1)).ok());
  ASSERT_TRUE(Allocate(other, Open(other), KiB(1)).ok());
  uint64_t slot = 0;
  size_t seen = 0;
  do {
    const auto [page, next] = registry_->ListAllocations(slot, 10, 0, std::nullopt);
    EXPECT_LE(page.size(), 10u);
    seen += page.size();
    slot = next;
  } while (slot != 0);
  EXPECT_EQ(seen, 26u);
  EXPECT_EQ(registry_->ListAllocations(0, 100, 0, uid_t{1001}).first.size(), 1u);
  EXPECT_EQ(registry_->ListAllocations(0, 100, Open(client), std::nullopt).first.size(), 25u);
}

}  // namespace
}  // namespace tenure::server
