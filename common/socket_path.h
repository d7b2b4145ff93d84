// Where the daemon of a device listens and where clients look for it.
#ifndef COMMON_SOCKET_PATH_H_
#define COMMON_SOCKET_PATH_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tenure {

// Where a daemon started by this user for the device with this ordinal listens by default:
// /run/tenured/INDEX/grpc.sock for root, else $XDG_RUNTIME_DIR/tenured/INDEX/grpc.sock, else
// /tmp/tenured-UID/INDEX/grpc.sock.
std::string ListenPath(int device_ordinal);

// Where a client looks when it is told nothing: $TENURE_SOCKET, else the first that exists of the
// host's /run/tenured/0/grpc.sock and this user's ListenPath(0); the former when neither exists.
std::string ConnectPath();

// Where the daemon that serves gRPC at `grpc_socket` gives out file descriptors, which gRPC cannot
// carry: "fd.sock" beside a "grpc.sock", else the same name with ".fd" at its end.
std::string FdSocketPath(absl::string_view grpc_socket);

// The longest path a unix socket may have (sun_path, unix(7)), without its terminating zero.
inline constexpr int kMaxSocketPath = 107;

}  // namespace tenure

#endif  // COMMON_SOCKET_PATH_H_
