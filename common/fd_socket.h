// The protocol of the fd socket, over which file descriptors travel.
#ifndef COMMON_FD_SOCKET_H_
#define COMMON_FD_SOCKET_H_

#include <cstddef>

namespace tenure {

// It lies beside the socket of gRPC, which cannot carry descriptors. A client connects and writes a
// ticket that an RPC gave it. It reads one answer: a byte with an absl::StatusCode, followed by an
// error message unless the code is OK. With OK comes exactly one descriptor (SCM_RIGHTS), which
// maps one region. Then the daemon closes the connection.

inline constexpr size_t kTicketBytes = 16;
// The longest answer, with its first byte.
inline constexpr size_t kFdAnswerBytes = 512;

}  // namespace tenure

#endif  // COMMON_FD_SOCKET_H_
