#ifndef TESTS_CLIENT_EVENTUALLY_H_
#define TESTS_CLIENT_EVENTUALLY_H_

#include "absl/time/clock.h"

#include "client/session/deadline.h"

namespace tenure::testing {

// Looks until `condition` holds, for at most 20 s; whether it held.
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
