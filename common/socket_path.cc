#include "common/socket_path.h"

#include <unistd.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tenure {
namespace {

std::string HostPath(int device_ordinal) {
  return absl::StrCat("/run/tenured/", device_ordinal, "/grpc.sock");
}

// The value of an environment variable; empty when it is not set.
absl::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? absl::string_view() : absl::string_view(value);
}

}  // namespace

std::string ListenPath(int device_ordinal) {
  if (geteuid() == 0) return HostPath(device_ordinal);
  const absl::string_view runtime = Environment("XDG_RUNTIME_DIR");
  if (runtime.empty()) return "";
  return absl::StrCat(runtime, "/tenured/", device_ordinal, "/grpc.sock");
}

std::string ConnectPath() {
  const absl::string_view named = Environment("TENURE_SOCKET");
  if (!named.empty()) return std::string(named);
  // The host's daemon before the user's own: a user without one of its own uses the host's, and a
  // user with both names one in $TENURE_SOCKET.
  for (const std::string& path : {HostPath(0), ListenPath(0)}) {
    if (!path.empty() && access(path.c_str(), F_OK) == 0) return path;
  }
  return HostPath(0);
}

std::string FdSocketPath(absl::string_view grpc_socket) {
  constexpr absl::string_view kUsual = "grpc.sock";
  if (absl::EndsWith(grpc_socket, kUsual)) {
    return absl::StrCat(grpc_socket.substr(0, grpc_socket.size() - kUsual.size()), "fd.sock");
  }
  return absl::StrCat(grpc_socket, ".fd");
}

}  // namespace tenure
