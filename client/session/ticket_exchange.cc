#include "client/session/ticket_exchange.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "client/session/daemon_trust.h"
#include "client/session/socket_probe.h"
#include "common/fd_socket.h"
#include "common/socket_path.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

absl::StatusOr<UniqueFd> Connect(const std::string& path, std::optional<uid_t> named_uid) {
  if (path.size() <= size_t{kMaxSocketPath}) {
    UniqueFd connection(ConnectOnce(path));
    if (connection) {
      TENURE_ASSIGN_OR_RETURN(const std::optional<uid_t> named, NamedDaemonUid(named_uid));
      TENURE_RETURN_IF_ERROR(CheckConnection(connection.get(), path, named));
      return connection;
    }
    if (errno == EAGAIN) return absl::UnavailableError("the daemon's fd socket is busy");
  }
  const absl::Status why = CheckSocket(path, named_uid);
  // OK: the socket can be reached by now, so a daemon has just started. The caller repeats.
  return why.ok() ? absl::UnavailableError("the daemon's fd socket could not be reached") : why;
}

// Reads the daemon's answer: a byte with the status code, a message, and with OK a descriptor.
absl::StatusOr<UniqueFd> ReadAnswer(int connection) {
  std::array<char, kFdAnswerBytes> answer = {};
  iovec data = {answer.data(), answer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t length = recvmsg(connection, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (length <= 0)
    return absl::UnavailableError("the daemon closed the connection on its fd socket");
  // The descriptor is taken before the code is read: if one has arrived, it must be closed in any
  // case.
  UniqueFd fd;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int received = -1;
    std::memcpy(&received, CMSG_DATA(header), sizeof received);
    fd.Reset(received);
  }
  const auto code = static_cast<absl::StatusCode>(answer[0]);
  if (code != absl::StatusCode::kOk) {
    return absl::Status(code,
                        absl::string_view(answer.data() + 1, static_cast<size_t>(length) - 1));
  }
  // When a process has no free descriptor the kernel drops the sent one and delivers the rest.
  if (!fd) {
    return absl::ResourceExhaustedError(
        "the daemon sent a descriptor and this process has no room for it; raise its limit of open "
        "files (`ulimit -n`)");
  }
  return fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ExchangeTicket(const std::string& fd_socket, absl::string_view ticket,
                                        Deadline deadline, std::optional<uid_t> named_uid) {
  TENURE_ASSIGN_OR_RETURN(const UniqueFd connection, Connect(fd_socket, named_uid));
  if (send(connection.get(), ticket.data(), ticket.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
      static_cast<ssize_t>(ticket.size())) {
    return absl::UnavailableError("the daemon accepts no data on its fd socket");
  }
  // A blocking read would ignore the deadline while the daemon is busy.
  pollfd entry = {connection.get(), POLLIN, 0};
  while (true) {
    const auto left =
        static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(deadline.Left()) + 1, 60'000));
    const int ready = poll(&entry, 1, left);
    if (ready > 0) return ReadAnswer(connection.get());
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "poll the fd socket");
    if (deadline.Passed()) {
      return absl::DeadlineExceededError("the daemon did not answer on its fd socket in time");
    }
  }
}

}  // namespace tenure
