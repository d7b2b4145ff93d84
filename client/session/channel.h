// The way to the daemon's socket, and what is in the way of it.
#ifndef CLIENT_SESSION_CHANNEL_H_
#define CLIENT_SESSION_CHANNEL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "common/bytes.h"

namespace tenure {

// One attempt to connect to the socket at `path`, a path that fits, without waiting. A descriptor
// of the caller's, or -1 with errno.
int ConnectOnce(const std::string& path);

// Whether a daemon listens at `path`, found out by connecting once, because gRPC's own message for
// every reason is "failed to connect to all addresses".
// Errors: NOT_FOUND: no such socket. UNAVAILABLE: the socket is there and nobody listens.
// PERMISSION_DENIED: this uid may not connect. INVALID_ARGUMENT: no path to a unix socket. Each
// message says what to do.
absl::Status CheckSocket(const std::string& path);

// A channel of its own to the daemon at `path`: it shares no connection with other channels of the
// process, takes no settings from the environment (proxies, service config) and repeats nothing by
// itself. Refuses messages larger than `max_message`.
// Errors: those of CheckSocket.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& path,
                                                           Bytes max_message);

// Makes the call end by `timeout` from now, whatever happens to the wall clock meanwhile.
void SetTimeout(grpc::ClientContext& context, absl::Duration timeout);

}  // namespace tenure

#endif  // CLIENT_SESSION_CHANNEL_H_
