// The fd socket: a region's descriptor in exchange for a ticket.
#ifndef SERVER_CALLS_FD_EXCHANGE_H_
#define SERVER_CALLS_FD_EXCHANGE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"
#include "server/calls/ticket_table.h"
#include "server/leases/lease_registry.h"
#include "server/transport/connection_table.h"

namespace tenure::server {

// Answers the connections of the fd socket, whose protocol common/fd_socket.h describes. The
// listener has identified the caller. The ticket must have been issued to that process, and the
// process must still hold the region.
//
// Borrows: tickets and registry.
// Thread safety: thread-safe.
class FdExchange {
 public:
  FdExchange(TicketTable& tickets, LeaseRegistry& registry)
      : tickets_(tickets), registry_(registry) {}

  // Reads the ticket from `socket`, answers, and closes the socket. Never waits: a caller that has
  // not written the whole ticket in one piece, or whose socket is full, gets nothing.
  void Answer(UniqueFd socket, const ConnectionTable::Caller& caller);

 private:
  absl::StatusOr<UniqueFd> Redeem(absl::string_view ticket, const ConnectionTable::Caller& caller);

  TicketTable& tickets_;
  LeaseRegistry& registry_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_FD_EXCHANGE_H_
