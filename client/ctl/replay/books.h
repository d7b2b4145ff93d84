// The rules by which the daemon's books balance, as anybody outside can check them.
#ifndef CLIENT_CTL_REPLAY_BOOKS_H_
#define CLIENT_CTL_REPLAY_BOOKS_H_

#include <cstdint>

#include "absl/status/status.h"

#include "common/bytes.h"
#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {

// total = driver free + reserved + other; reserved = leased + warm + quarantined; what clients hold
// lies in what is leased, and they hold at least what they asked for. INTERNAL with both sides of
// the first rule that does not hold.
absl::Status CheckBooks(const v1::GetStatsResponse& stats);

// What a process knows of its own session.
struct Holdings {
  uint64_t allocations = 0;
  Bytes granted;
  Bytes requested;
};

// The daemon's line about a session says what its process knows. INTERNAL with both sides where it
// does not.
absl::Status CheckHoldings(const v1::Session& session, const Holdings& holdings);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_BOOKS_H_
