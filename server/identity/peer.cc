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

// The fields of /proc/PID/stat from the third on; empty when the process is gone. The second field,
// the program's name, may hold spaces and parentheses, so they are counted from the last ')'.
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

// Empty also when they cannot be read: then nobody is let in for their sake.
std::vector<gid_t> GroupsOf(int socket) {
  socklen_t length = 0;
  // Says how much room they need.
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
    return absl::ErrnoToStatus(errno, "cannot read who connected");
  }
  if (credentials.pid == 0) {
    return absl::PermissionDeniedError(
        "the calling process lives in a PID namespace that the daemon cannot see; start it in the "
        "host's PID namespace "
        "(hostPID: true, --pid=host)");
  }
  UniqueFd pidfd;
  int fd = -1;
  length = sizeof fd;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &length) == 0) {
    pidfd.Reset(fd);
  } else {
    // Before kernel 6.5: the pid may have come to mean another process in between. Make notices an
    // exit that is done; the listener asks for the credentials of the first message, written after
    // this point, as the second check.
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
  const absl::StatusOr<uint64_t> start = StartTime(pid);
  if (!start.ok()) return start.status();
  // The start time is that of the process behind the pidfd only if that one had not exited when it
  // was read.
  if (IsReadable(pidfd.get()))
    return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  return std::shared_ptr<const Peer>(
      new Peer(std::move(pidfd), ProcessKey{pid, *start}, uid, gid, std::move(groups)));
}

bool Peer::IsOperator() const { return uid_ == 0 || uid_ == geteuid(); }

bool Peer::Exited() const { return !pidfd_ || IsReadable(pidfd_.get()); }

bool Peer::Stopped() const {
  const std::vector<std::string> fields = StatFields(pid());
  return !fields.empty() && (fields[0] == "T" || fields[0] == "t") && !Exited();
}

absl::Status Peer::Kill() const {
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot kill process ", pid()));
}

}  // namespace tenure::server
