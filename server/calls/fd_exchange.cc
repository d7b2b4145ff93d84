#include "server/calls/fd_exchange.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/fd_socket.h"
#include "common/status_macros.h"

namespace tenure::server {
namespace {

// Sends only if the answer fits into the socket's buffer, which it does unless the caller filled
// the buffer itself.
void Send(int socket, absl::string_view words, int fd) {
  iovec data = {const_cast<char*>(words.data()), words.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  // A failure is ignored: a caller that has hung up needs no answer.
  static_cast<void>(sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

}  // namespace

void FdExchange::Answer(UniqueFd socket, const ConnectionTable::Caller& caller) {
  std::array<char, kTicketBytes> ticket = {};
  const ssize_t length = recv(socket.get(), ticket.data(), ticket.size(), MSG_DONTWAIT);
  if (length <= 0) return;
  const absl::StatusOr<UniqueFd> fd =
      Redeem(absl::string_view(ticket.data(), static_cast<size_t>(length)), caller);
  // The first byte is the code, 0 for success. The message follows, cut to the length that a client
  // reads.
  const std::string answer =
      absl::StrCat(std::string(1, static_cast<char>(fd.status().code())), fd.status().message());
  Send(socket.get(), absl::string_view(answer).substr(0, kFdAnswerBytes), fd.ok() ? fd->get() : -1);
}

absl::StatusOr<UniqueFd> FdExchange::Redeem(absl::string_view ticket,
                                            const ConnectionTable::Caller& caller) {
  TENURE_RETURN_IF_ERROR(caller.status());
  TENURE_ASSIGN_OR_RETURN(const RegionName region, tickets_.Redeem(ticket, **caller));
  // The registry decides now whether the caller holds the region: the ticket alone proves nothing.
  return registry_.Export(**caller, region);
}

}  // namespace tenure::server
