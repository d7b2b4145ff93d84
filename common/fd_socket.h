// What is said on the fd socket, the one beside gRPC's, which carries file descriptors.
//
// A client connects, writes a ticket that an RPC gave it, and reads one answer: a byte with an
// absl::StatusCode, then words when that is not OK. With OK comes exactly one descriptor
// (SCM_RIGHTS), which maps one region. Then the daemon closes the connection.
#ifndef COMMON_FD_SOCKET_H_
#define COMMON_FD_SOCKET_H_

#include <cstddef>

namespace tenure {

inline constexpr size_t kTicketBytes = 16;
// The longest answer.
inline constexpr size_t kFdAnswerBytes = 512;

}  // namespace tenure

#endif  // COMMON_FD_SOCKET_H_
