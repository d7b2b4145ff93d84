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

// The table of InstallSocketGate; null before. It is initialised at compile time, because other
// constructors and destructors of static objects call close(2) too.
std::atomic<ConnectionTable*> installed = nullptr;

// The system calls. The C library's functions add only a cancellation point, which gRPC does not
// use. They are not looked up with dlsym(3), because close(2) is called before main as well.
ssize_t NextReceive(int socket, msghdr* message, int flags) {
  return syscall(SYS_recvmsg, socket, message, flags);
}

ssize_t NextSend(int socket, const msghdr* message, int flags) {
  return syscall(SYS_sendmsg, socket, message, flags);
}

int NextClose(int file) { return static_cast<int>(syscall(SYS_close, file)); }

// The process that wrote the message; null when the kernel did not say.
const ucred* WriterIn(msghdr& message) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      return reinterpret_cast<const ucred*>(CMSG_DATA(header));
    }
  }
  return nullptr;
}

// One read of gRPC. gRPC does not notice that the message has room for credentials, which it did
// not ask for, nor why the connection ends when it is cut.
ssize_t Receive(ConnectionTable& table, Connection& connection, msghdr* message, int flags) {
  // There is room for the credentials and nothing else. Descriptors that a client sends along do
  // not fit, so the kernel closes them, and a client cannot use up the daemon's descriptors.
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control = {};
  msghdr extended = *message;
  extended.msg_control = control.data();
  extended.msg_controllen = control.size();
  const ssize_t length = NextReceive(connection.socket(), &extended, flags);
  // Bytes that are only peeked at are counted when they are read.
  if (length <= 0 || (flags & MSG_PEEK) != 0) return length;
  const absl::Status passed =
      connection.OnRead(absl::MakeConstSpan(extended.msg_iov, extended.msg_iovlen),
                        static_cast<size_t>(length), WriterIn(extended), table.clock().Now());
  if (!passed.ok()) {
    // The bytes lie in gRPC's buffers already, but gRPC looks at none of them after an error.
    // It gets ECONNRESET from any client that resets its connection, and closes the socket then.
    table.Cut(connection, passed);
    errno = ECONNRESET;
    return -1;
  }
  // As if no control data had come: gRPC left no room for any and does not expect MSG_CTRUNC.
  message->msg_controllen = 0;
  message->msg_flags = extended.msg_flags & ~MSG_CTRUNC;
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
  // OnWritten may change errno, and gRPC reads it after this.
  const int error = errno;
  // The socket is full when nothing fits or only a part does. Other errors end the connection.
  const bool full = sent < 0 ? error == EAGAIN : static_cast<size_t>(sent) < LengthOf(*message);
  connection.OnWritten(!full, table.clock().Now());
  errno = error;
  return sent;
}

// The connection with this socket, or null; and the table that is installed.
Connection* ConnectionOf(int socket, ConnectionTable** table) {
  *table = installed.load(std::memory_order_acquire);
  return *table == nullptr ? nullptr : (*table)->FindBySocket(socket);
}

}  // namespace

void InstallSocketGate(std::shared_ptr<ConnectionTable> table) {
  // Never destroyed, see the header. A process has one daemon, but a test program has several one
  // after the other, and sockets of an earlier one may still be open.
  static auto* const kept = new std::vector<std::shared_ptr<ConnectionTable>>();
  kept->push_back(std::move(table));
  installed.store(kept->back().get(), std::memory_order_release);
}

}  // namespace tenure::server

// The definitions that gRPC's calls resolve to. They are exported (default visibility), because
// gRPC is a shared library and finds them through the dynamic symbol table of the program.
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
  // Before the system call: after it another thread may accept a connection with this number.
  if (table != nullptr) table->Remove(file);
  return NextClose(file);
}

}  // extern "C"
