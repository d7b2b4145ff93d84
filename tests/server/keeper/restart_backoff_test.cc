// When the keeper starts the daemon again.

#include "server/keeper/restart_backoff.h"

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

TEST(RestartBackoffTest, ADaemonThatLivedLongIsFollowedAtOnceAndThoseThatNeverServedLaterAndLater) {
  const auto ms = [](int64_t n) { return absl::Milliseconds(n); };
  RestartBackoff backoff(ms(200), ms(1000));
  EXPECT_EQ(backoff.AfterEnd(absl::Hours(1), true), ms(0));
  EXPECT_EQ(backoff.AfterEnd(ms(50), true), ms(150));
  EXPECT_EQ(backoff.AfterEnd(ms(50), true), ms(150));
  EXPECT_EQ(backoff.AfterEnd(ms(0), false), ms(400));
  EXPECT_EQ(backoff.AfterEnd(ms(0), false), ms(800));
  EXPECT_EQ(backoff.AfterEnd(ms(0), false), ms(1000));
  EXPECT_EQ(backoff.AfterEnd(ms(300), false), ms(700));
  EXPECT_EQ(backoff.AfterEnd(ms(300), true), ms(0));
}

}  // namespace
}  // namespace tenure::server
