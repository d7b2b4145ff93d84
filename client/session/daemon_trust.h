// Whether the process that listens at a socket may be taken for the daemon.
#ifndef CLIENT_SESSION_DAEMON_TRUST_H_
#define CLIENT_SESSION_DAEMON_TRUST_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tenure {

// The uid that the user of this process has named as the daemon's: `option`, else
// $TENURE_DAEMON_UID. Errors: INVALID_ARGUMENT: the variable is no uid.
absl::StatusOr<std::optional<uid_t>> NamedDaemonUid(std::optional<uid_t> option);

// Whether a listener of this uid at `path` may be taken for the daemon. A client sends what it
// leases and maps what it is told, so that another user's process must not be able to take the
// daemon's place. Trusted are root, this process's user, and the owner of the socket's folder if
// only root and that user may write in it and in all folders above it; or the named uid alone.
//
// No other user must be able to put a socket in the place of this one either: a connection that is
// made later reaches whatever lies at the path then.
// Errors: PERMISSION_DENIED: neither is the case. The message says what to do.
absl::Status CheckListener(const std::string& path, uid_t listener, std::optional<uid_t> named);

// The same for a connection: its other end is asked of the kernel, before a byte is sent.
absl::Status CheckConnection(int connection, const std::string& path, std::optional<uid_t> named);

}  // namespace tenure

#endif  // CLIENT_SESSION_DAEMON_TRUST_H_
