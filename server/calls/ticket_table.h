// The tickets against which the fd socket hands out descriptors.
#ifndef SERVER_CALLS_TICKET_TABLE_H_
#define SERVER_CALLS_TICKET_TABLE_H_

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/fd_socket.h"
#include "server/identity/peer.h"
#include "server/leases/lease_registry.h"

namespace tenure::server {

// A ticket is 128 random bits, good for one descriptor, for a short time, for the process that it
// was issued to. What it is for is looked up when it is shown, not when it is issued: it gives
// nothing that its holder has lost meanwhile.
//
// Invariants: 1. a ticket is redeemed at most once; 2. there are at most kMost of them.
// Borrows: the clock.
// Thread safety: thread-safe.
// Errors: NOT_FOUND for every ticket that is not good, whatever the reason: unknown, used, expired
// or somebody else's. RESOURCE_EXHAUSTED: kMost tickets wait to be used.
class TicketTable {
 public:
  static constexpr absl::Duration kLife = absl::Seconds(10);
  static constexpr size_t kMost = 1 << 16;

  explicit TicketTable(const Clock& clock) : clock_(clock) {}

  // kTicketBytes bytes.
  absl::StatusOr<std::string> Issue(const Peer& to, const RegionClaim& claim);
  // Who shows another process's ticket does not use it up.
  absl::StatusOr<RegionClaim> Redeem(absl::string_view ticket, const Peer& by);

 private:
  using Ticket = std::array<char, kTicketBytes>;
  struct Entry {
    ProcessKey process;
    uid_t uid = 0;
    RegionClaim claim;
  };

  void DropExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& clock_;
  absl::Mutex mu_;
  absl::flat_hash_map<Ticket, Entry> entries_ ABSL_GUARDED_BY(mu_);
  // Oldest first; also of tickets that were used.
  std::deque<std::pair<BootTime, Ticket>> expiries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_TICKET_TABLE_H_
