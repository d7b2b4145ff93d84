// The way to the daemon's fd socket.
#ifndef CLIENT_SESSION_TICKET_EXCHANGE_H_
#define CLIENT_SESSION_TICKET_EXCHANGE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "client/session/deadline.h"
#include "common/unique_fd.h"

namespace tenure {

// Exchanges a ticket for the descriptor that it is for; see common/fd_socket.h.
// Errors: what the daemon says, NOT_FOUND for a ticket that is not good any more; those of
// CheckSocket; DEADLINE_EXCEEDED; UNAVAILABLE: the daemon hung up, or is busy.
// Source: unix(7) SCM_RIGHTS.
absl::StatusOr<UniqueFd> ExchangeTicket(const std::string& fd_socket, absl::string_view ticket,
                                        Deadline deadline);

}  // namespace tenure

#endif  // CLIENT_SESSION_TICKET_EXCHANGE_H_
