// Checks of the daemon's books: the equations between byte counts that any client can verify.
#ifndef CLIENT_CTL_REPLAY_BOOKS_CHECK_H_
#define CLIENT_CTL_REPLAY_BOOKS_CHECK_H_

#include <cstdint>

#include "absl/status/status.h"

#include "common/bytes.h"
#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {

// Checks one answer of GetStats:
//   1. total = driver free + reserved + other;
//   2. reserved = leased + warm + quarantined;
//   3. clients hold at least as many bytes as they asked for.
// Errors: INTERNAL with both sides of the first rule that does not hold.
absl::Status CheckBooks(const v1::GetStatsResponse& stats);

// The blocks of one session, as its own process counted them.
struct Holdings {
  uint64_t allocations = 0;
  Bytes granted;
  Bytes requested;
};

// Compares the daemon's record of a session with the count of the session's process.
// Errors: INTERNAL with both numbers when they differ.
absl::Status CheckHoldings(const v1::Session& session, const Holdings& holdings);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_BOOKS_CHECK_H_
