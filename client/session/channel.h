// Opens gRPC channels to the daemon's socket.
#ifndef CLIENT_SESSION_CHANNEL_H_
#define CLIENT_SESSION_CHANNEL_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "common/bytes.h"

namespace tenure {

// Opens a channel to the daemon at `path`. The channel shares no connection with other channels of
// this process, reads no settings from the environment (proxies, service config), and repeats no
// call. It refuses messages larger than `max_message`.
// Errors: those of CheckSocket.
absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(
    const std::string& path, Bytes max_message, std::optional<uid_t> named_uid = std::nullopt);

// Sets the deadline of a call to `timeout` from now, on the monotonic clock.
void SetTimeout(grpc::ClientContext& context, absl::Duration timeout);

}  // namespace tenure

#endif  // CLIENT_SESSION_CHANNEL_H_
