// Tests whether a daemon listens at a socket, and explains why not.
#ifndef CLIENT_SESSION_SOCKET_PROBE_H_
#define CLIENT_SESSION_SOCKET_PROBE_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/status.h"

namespace tenure {

// Attempts once to connect to the socket at `path` and does not wait. Returns a descriptor, which
// the caller closes, or -1 with errno.
// REQUIRES: `path` has at most kMaxSocketPath bytes.
int ConnectOnce(const std::string& path);

// Connects to `path` once and closes the connection, to learn whether a daemon listens there. gRPC
// cannot tell: its message is "failed to connect to all addresses" for every reason.
// Errors: NOT_FOUND: there is no such socket. UNAVAILABLE: the socket exists, but no process
// listens on it. PERMISSION_DENIED: this uid may not connect. INVALID_ARGUMENT: the path is empty,
// too long or not a socket. PERMISSION_DENIED also: the listener may not be taken for the daemon
// (daemon_trust.h). Each message says what the user can do.
absl::Status CheckSocket(const std::string& path, std::optional<uid_t> named_uid = std::nullopt);

}  // namespace tenure

#endif  // CLIENT_SESSION_SOCKET_PROBE_H_
