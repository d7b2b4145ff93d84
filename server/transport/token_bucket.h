// A rate limit: so many a second on average, and a burst.
#ifndef SERVER_TRANSPORT_TOKEN_BUCKET_H_
#define SERVER_TRANSPORT_TOKEN_BUCKET_H_

#include <algorithm>
#include <atomic>

#include "absl/time/time.h"

#include "common/clock.h"

namespace tenure::server {

// Lets through `per_second` on average and up to `burst` at once.
//
// The generic cell rate algorithm: the only state is the time at which the bucket will be full
// again. Each token that is taken moves that time on by 1 / per_second. A request is refused when
// the time would come to lie more than burst / per_second ahead of now.
// Thread safety: thread-safe, without a lock, because each request of each client passes here.
class TokenBucket {
 public:
  TokenBucket(double per_second, double burst)
      : cost_ns_(static_cast<int64_t>(1e9 / per_second)),
        burst_ns_(static_cast<int64_t>(1e9 / per_second * burst)) {}

  // Takes `tokens`. Returns false and takes nothing when there are fewer.
  bool Take(BootTime now, int64_t tokens = 1) {
    const int64_t now_ns = absl::ToInt64Nanoseconds(now);
    int64_t full_at = full_at_ns_.load(std::memory_order_relaxed);
    while (true) {
      // A bucket that was full long ago holds no more than a burst, so its time counts as now.
      const int64_t next = std::max(full_at, now_ns) + tokens * cost_ns_;
      if (next - now_ns > burst_ns_) return false;
      if (full_at_ns_.compare_exchange_weak(full_at, next, std::memory_order_relaxed)) return true;
    }
  }

  // Whether all tokens are back.
  bool IsFull(BootTime now) const {
    return full_at_ns_.load(std::memory_order_relaxed) <= absl::ToInt64Nanoseconds(now);
  }

 private:
  const int64_t cost_ns_;
  const int64_t burst_ns_;
  std::atomic<int64_t> full_at_ns_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_TOKEN_BUCKET_H_
