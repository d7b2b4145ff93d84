// Waits in a test until a condition holds.
#ifndef TESTS_CLIENT_EVENTUALLY_H_
#define TESTS_CLIENT_EVENTUALLY_H_

#include "absl/time/clock.h"

#include "client/session/deadline.h"

namespace tenure::testing {

// Waits until `condition` holds, for at most 20 s. Returns whether it did.
template <typename Condition>
bool Eventually(Condition condition) {
  const Deadline deadline = Deadline::After(absl::Seconds(20));
  while (!condition()) {
    if (deadline.Passed()) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace tenure::testing

#endif  // TESTS_CLIENT_EVENTUALLY_H_
