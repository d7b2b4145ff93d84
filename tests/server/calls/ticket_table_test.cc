#include "server/calls/ticket_table.h"

#include <memory>
#include <string>
#include <variant>

#include <gtest/gtest.h>

#include "common/unique_fd.h"
#include "tests/support/manual_clock.h"

namespace tenure::server {
namespace {

std::shared_ptr<const Peer> Process(pid_t pid, uid_t uid = 1000) {
  return Peer::Imagined(UniqueFd(), ProcessKey{pid, 1}, uid);
}

class TicketTableTest : public ::testing::Test {
 protected:
  testing::ManualClock clock_;
  TicketTable tickets_{clock_};
  std::shared_ptr<const Peer> owner_ = Process(1);
};

TEST_F(TicketTableTest, ATicketIsGoodOnceForWhomItWasIssuedTo) {
  const absl::StatusOr<std::string> ticket = tickets_.Issue(*owner_, RegionName{7, uint64_t{9}});
  ASSERT_TRUE(ticket.ok());
  EXPECT_EQ(ticket->size(), kTicketBytes);
  EXPECT_TRUE(absl::IsNotFound(tickets_.Redeem(*ticket, *Process(2)).status())) << "stolen";
  EXPECT_TRUE(absl::IsNotFound(tickets_.Redeem(*ticket, *Process(1, 1001)).status()))
      << "another user by now";
  const absl::StatusOr<RegionName> region = tickets_.Redeem(*ticket, *owner_);
  ASSERT_TRUE(region.ok()) << "an attempt of others does not use it up";
  EXPECT_EQ(region->session, 7u);
  EXPECT_EQ(std::get<AllocationId>(region->holding), 9u);
  EXPECT_TRUE(absl::IsNotFound(tickets_.Redeem(*ticket, *owner_).status())) << "used";
}

TEST_F(TicketTableTest, ATicketExpires) {
  const std::string early = *tickets_.Issue(*owner_, RegionName{1, uint64_t{1}});
  clock_.Advance(TicketTable::kLifetime - absl::Milliseconds(1));
  const std::string late = *tickets_.Issue(*owner_, RegionName{1, uint64_t{2}});
  EXPECT_TRUE(tickets_.Redeem(early, *owner_).ok());
  clock_.Advance(TicketTable::kLifetime);
  EXPECT_TRUE(absl::IsNotFound(tickets_.Redeem(late, *owner_).status()));
}

TEST_F(TicketTableTest, WhatIsNoTicketIsRefused) {
  for (const std::string& wrong : {std::string(), std::string(16, '\0'), std::string(17, 'x')}) {
    EXPECT_TRUE(absl::IsNotFound(tickets_.Redeem(wrong, *owner_).status()));
  }
}

TEST_F(TicketTableTest, TooManyAreRefusedUntilTheOldestExpire) {
  for (size_t i = 0; i < TicketTable::kMaxTickets; ++i) {
    ASSERT_TRUE(tickets_.Issue(*owner_, RegionName{1, uint64_t{1}}).ok());
  }
  EXPECT_TRUE(
      absl::IsResourceExhausted(tickets_.Issue(*owner_, RegionName{1, uint64_t{1}}).status()));
  clock_.Advance(TicketTable::kLifetime);
  EXPECT_TRUE(tickets_.Issue(*owner_, RegionName{1, uint64_t{1}}).ok());
}

}  // namespace
}  // namespace tenure::server
