// Exchanges tickets for file descriptors on the daemon's fd socket.
#ifndef CLIENT_SESSION_TICKET_EXCHANGE_H_
#define CLIENT_SESSION_TICKET_EXCHANGE_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "client/session/deadline.h"
#include "common/unique_fd.h"

namespace tenure {

// Sends a ticket and returns the descriptor that the daemon sends for it; common/fd_socket.h has
// the protocol. Makes one attempt, because a ticket is valid once.
// Errors: those of CheckSocket. DEADLINE_EXCEEDED: no answer by `deadline`. UNAVAILABLE: the daemon
// closed the connection, or its backlog is full. RESOURCE_EXHAUSTED: this process has too many open
// files. The daemon's own, of which NOT_FOUND means an expired or used ticket.
// Source: unix(7) SCM_RIGHTS.
absl::StatusOr<UniqueFd> ExchangeTicket(const std::string& fd_socket, absl::string_view ticket,
                                        Deadline deadline,
                                        std::optional<uid_t> named_uid = std::nullopt);

}  // namespace tenure

#endif  // CLIENT_SESSION_TICKET_EXCHANGE_H_
