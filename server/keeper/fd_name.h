// The rules for names of stored file descriptors, which FdStore and the keeper share.
#ifndef SERVER_KEEPER_FD_NAME_H_
#define SERVER_KEEPER_FD_NAME_H_

#include <algorithm>
#include <cstddef>

#include "absl/strings/string_view.h"

namespace tenure::server {

inline constexpr size_t kMaxFdNameBytes = 255;

// The names of all descriptors reach a new daemon in one environment variable, LISTEN_FDNAMES,
// separated by colons. The kernel allows a string of 128 KiB (MAX_ARG_STRLEN, execve(2)), which
// includes the name of the variable and the terminating zero.
inline constexpr size_t kMaxFdNamesBytes = 128 * 1024 - sizeof "LISTEN_FDNAMES=";

// A name is printable ASCII without a colon.
inline bool IsValidFdName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxFdNameBytes &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return c >= ' ' && c < 127 && c != ':'; });
}

}  // namespace tenure::server

#endif  // SERVER_KEEPER_FD_NAME_H_
