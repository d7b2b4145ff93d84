// How long the keeper waits before it starts the daemon again.
#ifndef SERVER_KEEPER_RESTART_BACKOFF_H_
#define SERVER_KEEPER_RESTART_BACKOFF_H_

#include <algorithm>

#include "absl/time/time.h"

namespace tenure::server {

// The least time between two starts of the daemon. It begins at `shortest`. Each daemon that ends
// before it served doubles it, up to `longest`; a daemon that served sets it back to `shortest`.
//
// The time counts from start to start: after a daemon that has run for longer, the next starts at
// once.
// Thread safety: thread-compatible.
class RestartBackoff {
 public:
  RestartBackoff(absl::Duration shortest, absl::Duration longest)
      : shortest_(shortest), longest_(longest), spacing_(shortest) {}

  // A daemon has ended that ran for `lived`. Returns how long to wait before the next start.
  absl::Duration AfterEnd(absl::Duration lived, bool served) {
    spacing_ = served ? shortest_ : std::min(spacing_ * 2, longest_);
    return std::max(absl::ZeroDuration(), spacing_ - lived);
  }

 private:
  const absl::Duration shortest_;
  const absl::Duration longest_;
  absl::Duration spacing_;
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_RESTART_BACKOFF_H_
