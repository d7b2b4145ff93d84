// Names of stored file descriptors, as both sides of the protocol must see them.
#ifndef SERVER_KEEPER_FD_NAME_H_
#define SERVER_KEEPER_FD_NAME_H_

#include <algorithm>
#include <cstddef>

#include "absl/strings/string_view.h"

namespace tenure::server {

inline constexpr size_t kMaxFdNameBytes = 255;

// The names travel in one environment variable, LISTEN_FDNAMES, with a colon between them. The
// kernel takes no string longer than 128 KiB (MAX_ARG_STRLEN, execve(2)); the variable's own name
// and the terminating zero are in it.
inline constexpr size_t kMaxFdNamesBytes = 128 * 1024 - sizeof "LISTEN_FDNAMES=";

// ASCII without control characters and without the colon.
inline bool IsValidFdName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxFdNameBytes &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return c >= ' ' && c < 127 && c != ':'; });
}

}  // namespace tenure::server

#endif  // SERVER_KEEPER_FD_NAME_H_
