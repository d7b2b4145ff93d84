#include "server/transport/socket_gate.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace tenure::server {
namespace {

// Constant-initialised: close(2) is called before and after main.
std::atomic<ConnectionTable*> installed = nullptr;

// The system calls themselves: the C library's functions of these names do nothing else.
ssize_t NextReceive(int socket, msghdr* message, int flags) {
  return syscall(SYS_recvmsg, socket, message, flags);
}

ssize_t NextSend(int socket, const msghdr* message, int flags) {
  return syscall(SYS_sendmsg, socket, message, flags);
}

int NextClose(int file) { return static_cast<int>(syscall(SYS_close, file)); }

const ucred* WriterIn(msghdr& message) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      return reinterpret_cast<const ucred*>(CMSG_DATA(header));
    }
  }
  return nullptr;
}

ssize_t Receive(ConnectionTable& table, Connection& connection, msghdr* message, int flags) {
  // Room for the writer and nothing else: files that come along are dropped by the kernel.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control = {};
  msghdr ours = *message;
  ours.msg_control = control.data();
  ours.msg_controllen = control.size();
  const ssize_t length = NextReceive(connection.socket(), &ours, flags);
  if (length <= 0 || (flags & MSG_PEEK) != 0) return length;
  const absl::Status passed =
      connection.OnRead(absl::MakeConstSpan(ours.msg_iov, ours.msg_iovlen),
                        static_cast<size_t>(length), WriterIn(ours), table.clock().Now());
  if (!passed.ok()) {
    table.Cut(connection, passed);
    errno = ECONNRESET;
    return -1;
  }
  message->msg_controllen = 0;
  message->msg_flags = ours.msg_flags & ~MSG_CTRUNC;
  return length;
}

size_t LengthOf(const msghdr& message) {
  size_t length = 0;
  for (const iovec& buffer : absl::MakeConstSpan(message.msg_iov, message.msg_iovlen)) {
    length += buffer.iov_len;
  }
  return length;
}

ssize_t Send(const ConnectionTable& table, Connection& connection, const msghdr* message,
             int flags) {
  const ssize_t sent = NextSend(connection.socket(), message, flags);
  const int error = errno;
  const bool full = sent < 0 ? error == EAGAIN : static_cast<size_t>(sent) < LengthOf(*message);
  connection.OnWritten(!full, table.clock().Now());
  errno = error;
  return sent;
}

// The connection that a socket is, if it is one.
Connection* ConnectionOf(int socket, ConnectionTable** table) {
  *table = installed.load(std::memory_order_acquire);
  return *table == nullptr ? nullptr : (*table)->Serving(socket);
}

}  // namespace

void InstallSocketGate(std::shared_ptr<ConnectionTable> table) {
  // Never let go of, see the header. A process has one daemon; a test has some.
  static auto* const kept = new std::vector<std::shared_ptr<ConnectionTable>>();
  kept->push_back(std::move(table));
  installed.store(kept->back().get(), std::memory_order_release);
}

}  // namespace tenure::server

extern "C" {

__attribute__((visibility("default"))) ssize_t recvmsg(int socket, msghdr* message, int flags) {
  using namespace tenure::server;
  ConnectionTable* table = nullptr;
  Connection* const connection = ConnectionOf(socket, &table);
  if (connection == nullptr) return NextReceive(socket, message, flags);
  return Receive(*table, *connection, message, flags);
}

__attribute__((visibility("default"))) ssize_t sendmsg(int socket, const msghdr* message,
                                                       int flags) {
  using namespace tenure::server;
  ConnectionTable* table = nullptr;
  Connection* const connection = ConnectionOf(socket, &table);
  if (connection == nullptr) return NextSend(socket, message, flags);
  return Send(*table, *connection, message, flags);
}

__attribute__((visibility("default"))) int close(int file) {
  using namespace tenure::server;
  ConnectionTable* const table = installed.load(std::memory_order_acquire);
  if (table != nullptr) table->NoteClosing(file);
  return NextClose(file);
}

}  // extern "C"
