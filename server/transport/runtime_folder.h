// The folder in which the daemon has its sockets, its journal and its claim.
#ifndef SERVER_TRANSPORT_RUNTIME_FOLDER_H_
#define SERVER_TRANSPORT_RUNTIME_FOLDER_H_

#include <string>

#include "absl/status/statusor.h"

namespace tenure::server {

// Makes the folder of this socket where it is missing, with mode 0755 at most, and returns its
// path. A user who may write there could replace the sockets, and would then be taken for the
// daemon.
// Errors: PERMISSION_DENIED: a user who is neither root nor this one may write there, or may
// replace the folder through one above it. Else as mkdir(2).
absl::StatusOr<std::string> MakeRuntimeFolder(const std::string& socket_path);

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_RUNTIME_FOLDER_H_
