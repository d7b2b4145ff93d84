// The time that counts against clients.
#ifndef SERVER_LEASES_WATCHED_TIME_H_
#define SERVER_LEASES_WATCHED_TIME_H_

#include <algorithm>

#include "absl/time/time.h"

#include "common/clock.h"

namespace tenure::server {

// The time in which the daemon was looking after its sessions. Between two looks it runs with the
// clock, for `longest` at most. So a time in which the daemon or the whole host stood still is not
// counted against clients, whose keep-alives could not be read meanwhile.
//
// Invariants: it never runs backwards, and never faster than the clock.
// Thread safety: thread-compatible.
class WatchedTime {
 public:
  WatchedTime(BootTime start, absl::Duration longest) : last_look_(start), longest_(longest) {}

  // The watched time at this moment, from an arbitrary beginning.
  absl::Duration At(BootTime now) const { return counted_ + std::min(now - last_look_, longest_); }

  // The daemon looks. Returns how much of the time since the last look does not count.
  absl::Duration Look(BootTime now) {
    const absl::Duration unwatched = std::max(now - last_look_ - longest_, absl::ZeroDuration());
    counted_ = At(now);
    last_look_ = now;
    return unwatched;
  }

 private:
  absl::Duration counted_;
  BootTime last_look_;
  const absl::Duration longest_;
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_WATCHED_TIME_H_
