// The tickets for which the fd socket hands out descriptors.
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

// A ticket is 128 random bits. It is valid for one descriptor, for kLifetime, and for the process
// that it was issued to. It names a region but grants none: the region is looked up when the ticket
// is redeemed, so its holder gets nothing that it has lost in the meantime.
//
// Invariants
//  1. A ticket is redeemed at most once.
//  2. At most kMaxTickets were issued within kLifetime.
// Borrows: the clock.
// Thread safety: thread-safe.
// Errors: NOT_FOUND: the ticket is unknown, used, expired or another process's; the caller cannot
//     tell which. RESOURCE_EXHAUSTED: kMaxTickets were issued within kLifetime.
class TicketTable {
 public:
  static constexpr absl::Duration kLifetime = absl::Seconds(10);
  static constexpr size_t kMaxTickets = 1 << 16;

  explicit TicketTable(const Clock& clock) : clock_(clock) {}

  // Returns kTicketBytes bytes.
  absl::StatusOr<std::string> Issue(const Peer& to, const RegionName& region);
  // A process that shows another process's ticket does not use it up.
  absl::StatusOr<RegionName> Redeem(absl::string_view ticket, const Peer& by);

 private:
  using Ticket = std::array<char, kTicketBytes>;
  struct Entry {
    ProcessKey process;
    uid_t uid = 0;
    RegionName region;
  };

  void DropExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& clock_;
  // No driver call is made while this is held.
  absl::Mutex mu_;
  absl::flat_hash_map<Ticket, Entry> entries_ ABSL_GUARDED_BY(mu_);
  // Oldest first. Tickets that were used stay here until they expire, which bounds how many a
  // client can have issued within kLifetime.
  std::deque<std::pair<BootTime, Ticket>> expiries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_TICKET_TABLE_H_
