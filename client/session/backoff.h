#ifndef CLIENT_SESSION_BACKOFF_H_
#define CLIENT_SESSION_BACKOFF_H_

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tenure {

// Whether the same request may succeed if it is simply repeated.
inline bool IsTransient(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

// How long to wait between attempts: doubling from 2 ms to 500 ms, each cut at random by up to a
// half, so that clients that lost their daemon together do not come back together.
//
// Thread safety: thread-compatible.
class Backoff {
 public:
  absl::Duration Next();
  void Reset() { step_ = kFirst; }

 private:
  static constexpr absl::Duration kFirst = absl::Milliseconds(2);
  static constexpr absl::Duration kLongest = absl::Milliseconds(500);

  absl::Duration step_ = kFirst;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_BACKOFF_H_
