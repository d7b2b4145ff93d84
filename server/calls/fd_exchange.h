// A descriptor against a ticket.
#ifndef SERVER_CALLS_FD_EXCHANGE_H_
#define SERVER_CALLS_FD_EXCHANGE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"
#include "server/calls/ticket_table.h"
#include "server/leases/lease_registry.h"
#include "server/transport/connection_table.h"

namespace tenure::server {

// Answers those who come to the fd socket; what is said there, common/fd_socket.h has. Who they are
// the listener has found out: the ticket must be theirs, and so must be, still, what it is for.
//
// Borrows: tickets and registry.
// Thread safety: thread-safe.
class FdExchange {
 public:
  FdExchange(TicketTable& tickets, LeaseRegistry& registry)
      : tickets_(tickets), registry_(registry) {}

  // Reads the ticket that has come over `socket`, answers, and closes. Never waits: who has not
  // written the whole ticket in one piece, or reads nothing, gets nothing.
  void Answer(UniqueFd socket, const ConnectionTable::Caller& caller);

 private:
  absl::StatusOr<UniqueFd> Redeem(absl::string_view ticket, const ConnectionTable::Caller& caller);

  TicketTable& tickets_;
  LeaseRegistry& registry_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_FD_EXCHANGE_H_
