#ifndef SERVER_IDENTITY_SEGMENT_KEY_H_
#define SERVER_IDENTITY_SEGMENT_KEY_H_

#include <sys/types.h>

#include <compare>
#include <string>

namespace tenure::server {

// A segment's name is its owner's: two users may use the same.
struct SegmentKey {
  uid_t owner = 0;
  std::string name;
  auto operator<=>(const SegmentKey&) const = default;
};

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_SEGMENT_KEY_H_
