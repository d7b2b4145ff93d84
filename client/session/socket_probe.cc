#include "client/session/socket_probe.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "client/session/daemon_trust.h"
#include "common/socket_path.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace tenure {
namespace {

// The reason why a socket cannot be reached, with the user's next step.
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
          absl::StrCat("no process listens at ", path,
                       ": the daemon that made it has ended; start it with `tenured`"));
    default:
      return absl::UnavailableError(absl::StrCat("connect to ", path, ": ", std::strerror(error)));
  }
}

}  // namespace

int ConnectOnce(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // The terminating zero is there already: a path is shorter than sun_path.
  std::memcpy(address.sun_path, path.data(), path.size());
  // Non-blocking: connect() on a unix socket otherwise waits while the listener's backlog is full.
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  // close() may set errno, and the caller needs the reason why connect() failed.
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

absl::Status CheckSocket(const std::string& path, std::optional<uid_t> named_uid) {
  if (path.empty() || path.size() > size_t{kMaxSocketPath}) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", path, "' is no path for a unix socket: 1 to ", kMaxSocketPath, " bytes are possible"));
  }
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return Explain(path, errno);
  if (!S_ISSOCK(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a socket"));
  }
  TENURE_ASSIGN_OR_RETURN(const std::optional<uid_t> named, NamedDaemonUid(named_uid));
  const UniqueFd connection(ConnectOnce(path));
  if (connection) return CheckConnection(connection.get(), path, named);
  // The backlog of the socket is full, so a daemon does listen, and gRPC waits for its turn. The
  // file belongs to the listener's user.
  if (errno == EAGAIN) return CheckListener(path, info.st_uid, named);
  return Explain(path, errno);
}

}  // namespace tenure
