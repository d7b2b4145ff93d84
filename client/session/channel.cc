#include "client/session/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "common/socket_path.h"

namespace tenure {
namespace {

absl::Status Explain(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(
          absl::StrCat("no daemon at ", path, ": start it with `tenured`, or name its socket"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(
          absl::StrCat("uid ", geteuid(), " may not connect to ", path,
                       ": join the group that owns the socket (`ls -l ", path, "` names it)"));
    case ECONNREFUSED:
      return absl::UnavailableError(
          absl::StrCat("nobody listens at ", path,
                       ": the daemon that made it is gone; start it with `tenured`"));
    default:
      return absl::UnavailableError(absl::StrCat("connect to ", path, ": ", std::strerror(error)));
  }
}

// gRPC reads its target as a URI, where bytes other than these are written as %XX.
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

int ConnectOnce(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

absl::Status CheckSocket(const std::string& path) {
  if (path.empty() || path.size() > size_t{kMaxSocketPath}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", path, "' is no path for a unix socket: 1 to ", kMaxSocketPath, " bytes are possible"));
  }
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return Explain(path, errno);
  if (!S_ISSOCK(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a socket"));
  }
  const int connection = ConnectOnce(path);
  if (connection >= 0) {
    close(connection);
    return absl::OkStatus();
  }
  // A full backlog: somebody listens, and gRPC waits for its turn.
  return errno == EAGAIN ? absl::OkStatus() : Explain(path, errno);
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> OpenChannel(const std::string& path,
                                                           Bytes max_message) {
  const absl::Status reachable = CheckSocket(path);
  if (!reachable.ok()) return reachable;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // The peer is a process on this host: when it comes back it is there at once, so gRPC's second to
  // two minutes between attempts would only lose time.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  // In spite of its name, how long one attempt may take: a busy host needs a while to accept and to
  // greet.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetMaxReceiveMessageSize(static_cast<int>(max_message.value()));
  arguments.SetMaxSendMessageSize(static_cast<int>(max_message.value()));
  return grpc::CreateCustomChannel(Target(path), grpc::InsecureChannelCredentials(), arguments);
}

void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
  const gpr_timespec span = gpr_time_from_nanos(absl::ToInt64Nanoseconds(timeout), GPR_TIMESPAN);
  context.set_deadline(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), span));
}

}  // namespace tenure
