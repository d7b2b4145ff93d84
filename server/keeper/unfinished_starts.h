// How long a start waits under a supervisor whose own pauses do not grow.
#ifndef SERVER_KEEPER_UNFINISHED_STARTS_H_
#define SERVER_KEEPER_UNFINISHED_STARTS_H_

#include <string>

#include "absl/time/time.h"

namespace tenure::server {

// Counts the starts since the daemon last served, in a file of the service's runtime folder.
// systemd starts a service again after a constant pause, up to version 253; each start that follows
// one which did not serve therefore waits longer itself.
//
// The count is the length of the file: it needs no room in a folder that is full.
// Thread safety: thread-compatible.
// Errors: none. A file that cannot be had counts no start.
// Source: systemd.exec(5), RuntimeDirectory=.
class UnfinishedStarts {
 public:
  static constexpr absl::Duration kShortest = absl::Milliseconds(200);
  static constexpr absl::Duration kLongest = absl::Seconds(5);

  // `folder` is empty when the service has none.
  explicit UnfinishedStarts(const std::string& folder);

  // Counts this start. Returns how long it is to wait: nothing after a life that served, then
  // kShortest, and twice as long each time up to kLongest.
  absl::Duration Begin() const;
  // The daemon serves.
  void Served() const;

 private:
  std::string path_;
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_UNFINISHED_STARTS_H_
