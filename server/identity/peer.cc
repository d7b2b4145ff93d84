#include "server/identity/peer.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
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

// The fields of /proc/PID/stat from the third on; empty when there is no such process. The second
// field is the program's name, which may hold spaces and parentheses. So the fields are counted
// from the last ')'.
std::vector<std::string> StatFields(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::stringstream text;
  text << file.rdbuf();
  const std::string stat = text.str();
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 > stat.size()) return {};
  return absl::StrSplit(stat.substr(name_end + 2), ' ');
}

absl::StatusOr<uint64_t> StartTime(pid_t pid) {
  const std::vector<std::string> fields = StatFields(pid);
  if (fields.empty()) return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
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
    pidfd.Reset(static_cast<int>(syscall(SYS_pidfd_open, credentials.pid, 0)));
  }
  return Make(std::move(pidfd), credentials.pid, credentials.uid, credentials.gid,
              GroupsOf(socket));
}

absl::StatusOr<std::shared_ptr<const Peer>> Peer::OfProcess(pid_t pid, uid_t uid, gid_t gid) {
  return Make(UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))), pid, uid, gid, {});
}

std::shared_ptr<const Peer> Peer::Gone(ProcessKey key, uid_t uid, gid_t gid) {
  return std::shared_ptr<const Peer>(new Peer(UniqueFd(), key, uid, gid, {}));
}

std::shared_ptr<const Peer> Peer::Imagined(UniqueFd pidfd, ProcessKey key, uid_t uid) {
  return std::shared_ptr<const Peer>(new Peer(std::move(pidfd), key, uid, uid, {}));
}

absl::StatusOr<std::shared_ptr<const Peer>> Peer::Make(UniqueFd pidfd, pid_t pid, uid_t uid,
                                                       gid_t gid, std::vector<gid_t> groups) {
  if (!pidfd) return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  TENURE_ASSIGN_OR_RETURN(const uint64_t start, StartTime(pid));
  // /proc is read by pid. While the process behind the pidfd lives, its pid is its own. If it had
  // exited, the start time may be that of a later process with the same pid.
  if (IsReadable(pidfd.get())) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  }
  return std::shared_ptr<const Peer>(
      new Peer(std::move(pidfd), ProcessKey{pid, start}, uid, gid, std::move(groups)));
}

bool Peer::IsOperator() const { return uid_ == 0 || uid_ == geteuid(); }

bool Peer::Exited() const { return !pidfd_ || IsReadable(pidfd_.get()); }

bool Peer::Stopped() const {
  const std::vector<std::string> fields = StatFields(pid());
  return !fields.empty() && (fields[0] == "T" || fields[0] == "t") && !Exited();
}

absl::Status Peer::Kill() const {
  // Through the pidfd: kill(2) with a pid could hit a later process.
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot kill process ", pid()));
}

}  // namespace tenure::server
