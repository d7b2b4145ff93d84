// Which failed requests are sent again, and after which pauses.
#ifndef CLIENT_SESSION_BACKOFF_H_
#define CLIENT_SESSION_BACKOFF_H_

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tenure {

// Whether the same request may succeed when it is sent again.
inline bool IsTransient(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

// Whether the daemon has answered what becomes of the object that a request gives back, so that
// sending it again would change nothing. After any other error, a refusal too, the object is still
// this process's to give back.
inline bool IsGivenBack(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kNotFound:            // it has ended already
    case absl::StatusCode::kAborted:             // it has ended with its daemon
    case absl::StatusCode::kInvalidArgument:     // it never was one
    case absl::StatusCode::kFailedPrecondition:  // its request id belongs to another request
      return true;
    default:
      return false;
  }
}

// The pauses between attempts: they double from 2 ms to 500 ms, and each is shortened at random by
// up to a half. Without the randomness, all clients of a daemon that was restarted would call it at
// the same moments.
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
