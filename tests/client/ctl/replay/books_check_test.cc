#include "client/ctl/replay/books_check.h"

#include <gtest/gtest.h>

#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {
namespace {

v1::GetStatsResponse BalancedStats() {
  v1::GetStatsResponse stats;
  stats.set_total_bytes(100);
  stats.set_driver_free_bytes(50);
  stats.set_reserved_bytes(40);
  stats.set_other_bytes(10);
  stats.set_leased_bytes(25);
  stats.set_warm_bytes(10);
  stats.set_quarantined_bytes(5);
  stats.set_allocated_bytes(20);
  stats.set_requested_bytes(18);
  return stats;
}

TEST(BooksCheck, BalancedOnesPass) { EXPECT_EQ(CheckBooks(BalancedStats()), absl::OkStatus()); }

TEST(BooksCheck, EachRuleIsChecked) {
  v1::GetStatsResponse total = BalancedStats();
  total.set_other_bytes(11);
  EXPECT_FALSE(CheckBooks(total).ok());
  v1::GetStatsResponse reserved = BalancedStats();
  reserved.set_warm_bytes(11);
  EXPECT_FALSE(CheckBooks(reserved).ok());
  v1::GetStatsResponse requested = BalancedStats();
  requested.set_requested_bytes(21);
  EXPECT_FALSE(CheckBooks(requested).ok());
}

TEST(BooksCheck, SessionIsComparedWithWhatItsProcessHolds) {
  v1::Session session;
  session.set_allocations(2);
  session.set_allocated_bytes(512);
  session.set_requested_bytes(300);
  EXPECT_EQ(CheckHoldings(session, {2, Bytes(512), Bytes(300)}), absl::OkStatus());
  EXPECT_FALSE(CheckHoldings(session, {1, Bytes(512), Bytes(300)}).ok());
  EXPECT_FALSE(CheckHoldings(session, {2, Bytes(511), Bytes(300)}).ok());
  EXPECT_FALSE(CheckHoldings(session, {2, Bytes(512), Bytes(301)}).ok());
}

}  // namespace
}  // namespace tenure::ctl
