#include "server/identity/peer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59  // asm-generic/socket.h since 4.13
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // linux/socket.h since 6.5
#endif

namespace tenure::server {
namespace {

bool IsReadable(int fd) {
  pollfd entry = {fd, POLLIN, 0};
  return poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

absl::Status HasExited(pid_t pid) {
  return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
}

// A failed look at a process. Only ESRCH, and ENOENT of its folder in /proc, say that it is gone;
// without descriptors or memory left the call fails for a process that lives.
absl::Status LookError(int error, pid_t pid) {
  if (error == ESRCH || error == ENOENT) return HasExited(pid);
  return absl::ErrnoToStatus(error, absl::StrCat("cannot look at process ", pid));
}

// The fields of /proc/PID/stat from the third on. The second field is the program's name, which may
// hold spaces and parentheses. So the fields are counted from the last ')'.
// Errors: as LookError.
absl::StatusOr<std::vector<std::string>> StatFields(pid_t pid) {
  const UniqueFd file(open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return LookError(errno, pid);
  // proc(5): 52 numbers and a name of 64 characters at most.
  std::array<char, 2048> text = {};
  const ssize_t length = read(file.get(), text.data(), text.size());
  if (length < 0) return LookError(errno, pid);
  const absl::string_view stat(text.data(), static_cast<size_t>(length));
  const size_t name_end = stat.rfind(')');
  if (name_end == absl::string_view::npos || name_end + 2 > stat.size()) {
    return absl::InternalError(absl::StrCat("/proc/", pid, "/stat has another form than expected"));
  }
  return std::vector<std::string>(absl::StrSplit(stat.substr(name_end + 2), ' '));
}

absl::StatusOr<UniqueFd> OpenPidfd(pid_t pid) {
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return LookError(errno, pid);
  return pidfd;
}

absl::StatusOr<uint64_t> StartTime(pid_t pid) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<std::string> fields, StatFields(pid));
  uint64_t start = 0;
  constexpr size_t kStartTime = 22 - 3;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kStartTime], &start)) {
    return absl::InternalError(absl::StrCat("cannot read the start time of process ", pid));
  }
  return start;
}

// The supplementary groups of the process that connected. Empty when they cannot be read, so that
// a failure allows no user anything.
std::vector<gid_t> GroupsOf(int socket) {
  socklen_t length = 0;
  // The first call fails and writes the length that the second one needs.
  getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length);
  std::vector<gid_t> groups(length / sizeof(gid_t));
  if (groups.empty() ||
      getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0) {
    return {};
  }
  return groups;
}

}  // namespace

std::string Tenant::ToString() const { return absl::StrCat("uid:", uid); }

absl::StatusOr<std::shared_ptr<const Peer>> Peer::OfSocket(int socket) {
  ucred credentials = {};
  socklen_t length = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return absl::ErrnoToStatus(errno, "cannot read which process connected");
  }
  if (credentials.pid == 0) {
    return absl::PermissionDeniedError(
        "the calling process lives in a PID namespace that the daemon cannot see; start it in the "
        "host's PID namespace (hostPID: true, --pid=host)");
  }
  // First the pidfd, then everything that is read about the process by its pid, then the check that
  // it had not exited meanwhile (in Make). In another order the pid may belong to one process when
  // it is read and to another one when it is used.
  UniqueFd pidfd;
  int fd = -1;
  length = sizeof fd;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0) {
    pidfd.Reset(fd);
  } else {
    // Before kernel 6.5 there is no SO_PEERPIDFD. The process may have exited since it connected,
    // and another one may have its pid, which this would then open. The listener therefore also
    // compares pid, uid and gid of the process that wrote the first bytes.
    TENURE_ASSIGN_OR_RETURN(pidfd, OpenPidfd(credentials.pid));
  }
  return Make(std::move(pidfd), credentials.pid, credentials.uid, credentials.gid,
              GroupsOf(socket));
}

absl::StatusOr<std::shared_ptr<const Peer>> Peer::OfProcess(pid_t pid, uid_t uid, gid_t gid) {
  TENURE_ASSIGN_OR_RETURN(UniqueFd pidfd, OpenPidfd(pid));
  return Make(std::move(pidfd), pid, uid, gid, {});
}

std::shared_ptr<const Peer> Peer::Gone(ProcessKey key, uid_t uid, gid_t gid) {
  return std::shared_ptr<const Peer>(new Peer(UniqueFd(), key, uid, gid, {}));
}

std::shared_ptr<const Peer> Peer::Imagined(UniqueFd pidfd, ProcessKey key, uid_t uid) {
  return std::shared_ptr<const Peer>(new Peer(std::move(pidfd), key, uid, uid, {}));
}

absl::StatusOr<std::shared_ptr<const Peer>> Peer::Make(UniqueFd pidfd, pid_t pid, uid_t uid,
                                                       gid_t gid, std::vector<gid_t> groups) {
  const absl::StatusOr<uint64_t> start = StartTime(pid);
  // /proc is read by pid. While the process behind the pidfd lives, its pid is its own. If it had
  // exited, the start time may be that of a later process with the same pid.
  if (IsReadable(pidfd.get())) return HasExited(pid);
  if (absl::IsNotFound(start.status())) {
    return absl::InternalError(absl::StrCat("process ", pid, " lives, but is not in /proc"));
  }
  TENURE_RETURN_IF_ERROR(start.status());
  return std::shared_ptr<const Peer>(
      new Peer(std::move(pidfd), ProcessKey{pid, *start}, uid, gid, std::move(groups)));
}

bool Peer::IsOperator() const { return uid_ == 0 || uid_ == geteuid(); }

bool Peer::Exited() const { return !pidfd_ || IsReadable(pidfd_.get()); }

bool Peer::Stopped() const {
  const absl::StatusOr<std::vector<std::string>> fields = StatFields(pid());
  return fields.ok() && (fields->front() == "T" || fields->front() == "t") && !Exited();
}

absl::Status Peer::Kill() const {
  // Through the pidfd: kill(2) with a pid could hit a later process.
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) == 0) {
    return absl::OkStatus();
  }
  if (errno == EPERM) {
    return absl::PermissionDeniedError(absl::StrCat(
        "cannot kill process ", pid(), " of uid ", uid_, ": the daemon runs as uid ", geteuid(),
        " without CAP_KILL; type `sudo kill -KILL ", pid(),
        "`, and give the daemon AmbientCapabilities=CAP_KILL as the shipped unit does"));
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot kill process ", pid()));
}

}  // namespace tenure::server
