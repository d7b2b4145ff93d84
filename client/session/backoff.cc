#include "client/session/backoff.h"

#include <algorithm>

#include "absl/random/random.h"

namespace tenure {

absl::Duration Backoff::Next() {
  absl::InsecureBitGen random;
  const absl::Duration wait = step_ * absl::Uniform(random, 0.5, 1.0);
  step_ = std::min(step_ * 2, kLongest);
  return wait;
}

}  // namespace tenure
