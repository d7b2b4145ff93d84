// The name of a segment within the daemon: its owner and the name that the owner gave it.
#ifndef SERVER_IDENTITY_SEGMENT_KEY_H_
#define SERVER_IDENTITY_SEGMENT_KEY_H_

#include <sys/types.h>

#include <compare>
#include <string>

namespace tenure::server {

// Two users may give the same name to segments of their own.
struct SegmentKey {
  uid_t owner = 0;
  std::string name;
  auto operator<=>(const SegmentKey&) const = default;
};

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_SEGMENT_KEY_H_
