// So many a second, and a burst.
#ifndef SERVER_TRANSPORT_TOKEN_BUCKET_H_
#define SERVER_TRANSPORT_TOKEN_BUCKET_H_

#include <algorithm>
#include <atomic>

#include "absl/time/time.h"

#include "common/clock.h"

namespace tenure::server {

// Lets through `per_second` on average and up to `burst` at once.
//
// One number: when the bucket will be full again (the generic cell rate algorithm). A take moves it
// on by what it costs; too far ahead of now means too fast.
// Thread safety: thread-safe, without a lock: it stands on the way of every request.
class TokenBucket {
 public:
  TokenBucket(double per_second, double burst)
      : cost_ns_(static_cast<int64_t>(1e9 / per_second)),
        burst_ns_(static_cast<int64_t>(1e9 / per_second * burst)) {}

  // Takes `tokens`; false, and nothing is taken, when they are not there.
  bool Take(BootTime now, int64_t tokens = 1) {
    const int64_t now_ns = absl::ToInt64Nanoseconds(now);
    int64_t full_at = full_at_ns_.load(std::memory_order_relaxed);
    while (true) {
      const int64_t next = std::max(full_at, now_ns) + tokens * cost_ns_;
      if (next - now_ns > burst_ns_) return false;
      if (full_at_ns_.compare_exchange_weak(full_at, next, std::memory_order_relaxed)) return true;
    }
  }

  // Whether nothing taken is missing any more.
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
