// A token bucket: the rate, the burst, and threads that share it.

#include "server/transport/token_bucket.h"

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

TEST(TokenBucketTest, ABurstPassesAtOnceAndTheRestAtItsRate) {
  TokenBucket bucket(/*per_second=*/10, /*burst=*/5);
  BootTime now = absl::Hours(1);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(bucket.Take(now)) << i;
  EXPECT_FALSE(bucket.Take(now));
  now += absl::Milliseconds(100);
  EXPECT_TRUE(bucket.Take(now));
  EXPECT_FALSE(bucket.Take(now));
  now += absl::Hours(1);
  int taken = 0;
  while (bucket.Take(now)) ++taken;
  EXPECT_EQ(taken, 5) << "waiting longer saves up no more than the burst";
}

TEST(TokenBucketTest, ARefusalCostsNothing) {
  TokenBucket bucket(10, 5);
  const BootTime now = absl::Hours(1);
  EXPECT_FALSE(bucket.Take(now, 6));
  EXPECT_TRUE(bucket.Take(now, 5));
}

TEST(TokenBucketTest, ThreadsShareOneBucket) {
  TokenBucket bucket(1, 1000);
  const BootTime now = absl::Hours(1);
  std::atomic<int> taken = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 1000; ++j) taken += bucket.Take(now) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 1000);
}

}  // namespace
}  // namespace tenure::server
