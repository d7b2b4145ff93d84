// The bytes on a tenant's account, and the limit that refuses more.

#include "server/memory/tenant_accounts.h"

#include <string>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

constexpr Tenant kAlice{1000};
constexpr Tenant kBob{1001};

TEST(TenantAccountsTest, AnAccountIsFilledUpToTheLimitAndNoFurther) {
  TenantAccounts accounts(MiB(8));
  EXPECT_EQ(accounts.Room(kAlice), MiB(8));
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(6)));
  EXPECT_FALSE(accounts.Charge(kAlice, MiB(4)));
  EXPECT_EQ(accounts.Held(kAlice), MiB(6)) << "a refused charge changes nothing";
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(2)));
  EXPECT_EQ(accounts.Room(kAlice), Bytes(0));
  EXPECT_EQ(accounts.Sum(), MiB(8));
}

TEST(TenantAccountsTest, OneTenantDoesNotPayForAnother) {
  TenantAccounts accounts(MiB(8));
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(8)));
  EXPECT_TRUE(accounts.Charge(kBob, MiB(8)));
  accounts.Refund(kAlice, MiB(8));
  EXPECT_EQ(accounts.Held(kBob), MiB(8));
  EXPECT_EQ(accounts.Room(kAlice), MiB(8));
}

TEST(TenantAccountsTest, AnAccountThatIsRefundedCompletelyIsGone) {
  TenantAccounts accounts(MiB(8));
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(6)));
  accounts.Refund(kAlice, MiB(4));
  EXPECT_FALSE(accounts.empty());
  accounts.Refund(kAlice, MiB(2));
  EXPECT_TRUE(accounts.empty());
  EXPECT_EQ(accounts.Held(kAlice), Bytes(0));
}

TEST(TenantAccountsTest, WithoutALimitTheLargestSizeDoesNotWrap) {
  TenantAccounts accounts(Bytes(~uint64_t{0}));
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(2)));
  EXPECT_FALSE(accounts.Charge(kAlice, Bytes(~uint64_t{0})));
  EXPECT_EQ(accounts.Held(kAlice), MiB(2));
}

TEST(TenantAccountsTest, ARestoredAccountMayBeAboveTheLimitAndThenHasNoRoom) {
  TenantAccounts accounts(MiB(8));
  accounts.ChargeRestored(kAlice, MiB(12));
  EXPECT_EQ(accounts.Held(kAlice), MiB(12));
  EXPECT_EQ(accounts.Room(kAlice), Bytes(0));
  EXPECT_FALSE(accounts.Charge(kAlice, MiB(2)));
  EXPECT_EQ(accounts.Sum(), MiB(12));
  accounts.Refund(kAlice, MiB(6));
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(2)));
}

TEST(TenantAccountsTest, ARefusalSaysWhoHoldsHowMuchAndWhatToDo) {
  TenantAccounts accounts(MiB(8));
  EXPECT_TRUE(accounts.Charge(kAlice, MiB(6)));
  const absl::Status refusal = accounts.Refusal(kAlice, MiB(4));
  EXPECT_TRUE(absl::IsResourceExhausted(refusal)) << refusal;
  const std::string message(refusal.message());
  for (const char* part : {"4 MiB", "uid:1000", "holds 6 MiB of the 8 MiB", "--max-tenant-bytes"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
  }
}

}  // namespace
}  // namespace tenure::server
