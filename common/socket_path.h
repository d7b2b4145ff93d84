// The paths of the sockets: where a daemon listens and where clients look for it.
#ifndef COMMON_SOCKET_PATH_H_
#define COMMON_SOCKET_PATH_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tenure {

// The default path of a daemon that this user starts for the device with this ordinal:
// /run/tenured/INDEX/grpc.sock for root, else $XDG_RUNTIME_DIR/tenured/INDEX/grpc.sock. Empty for a
// user without that variable: a folder in /tmp could be made by any other user first.
std::string ListenPath(int device_ordinal);

// The path that a client connects to by default: $TENURE_SOCKET, else the first that exists of
// /run/tenured/0/grpc.sock and this user's ListenPath(0). The former when neither exists.
std::string ConnectPath();

// The path of the fd socket of the daemon that serves gRPC at `grpc_socket`: "fd.sock" beside a
// "grpc.sock", else the same path with ".fd" at its end.
std::string FdSocketPath(absl::string_view grpc_socket);

// The longest path that a unix socket may have (sun_path, unix(7)), without its terminating zero.
inline constexpr int kMaxSocketPath = 107;

}  // namespace tenure

#endif  // COMMON_SOCKET_PATH_H_
