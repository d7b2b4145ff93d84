#include "client/session/channel.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "client/session/socket_probe.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

// The address of the socket as gRPC's target. A target is a URI, in which all bytes other than
// those that are passed here have to be written as %XX.
std::string Target(const std::string& path) {
  std::string target = "unix:";
  for (const char c : path) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("/-._~", c)) {
      target.push_back(c);
    } else {
      absl::StrAppend(&target, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return target;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& path,
                                                           Bytes max_message,
                                                           std::optional<uid_t> named_uid) {
  TENURE_RETURN_IF_ERROR(CheckSocket(path, named_uid));
  grpc::ChannelArguments arguments;
  // By default channels to one address share a connection. The daemon would then see the sessions
  // of one process on one connection, and a broken one would break all of them.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // SessionStub repeats a call itself, because only it knows the request ids and the deadline.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // The daemon runs on this host, so it can be reached as soon as it listens again. gRPC's default
  // waits between attempts, 1 s to 120 s, would only lose time.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  // In spite of its name this limits how long one attempt to connect may take. On a busy host the
  // daemon may need seconds to accept and to send its HTTP/2 settings.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetMaxReceiveMessageSize(static_cast<int>(max_message.value()));
  arguments.SetMaxSendMessageSize(static_cast<int>(max_message.value()));
  return grpc::CreateCustomChannel(Target(path), grpc::InsecureChannelCredentials(), arguments);
}

void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
  // A deadline on gRPC's default clock, the wall clock, would move when that clock is set.
  const gpr_timespec span = gpr_time_from_nanos(absl::ToInt64Nanoseconds(timeout), GPR_TIMESPAN);
  context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span));
}

}  // namespace tenure
