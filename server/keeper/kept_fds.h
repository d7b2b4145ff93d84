// The file descriptors that the keeper holds for the daemon.
#ifndef SERVER_KEEPER_KEPT_FDS_H_
#define SERVER_KEEPER_KEPT_FDS_H_

#include <cstddef>
#include <list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace tenure::server {

// Descriptors with names, the latest first: systemd passes them on in that order. Two descriptors
// may have the same name, as in systemd.
//
// Invariants:
//   1. There are never more than max() descriptors, and never more names than one environment
//      variable holds.
//   2. Every descriptor has a number of at least kFirst + max(). A child finds them at kFirst and
//      above, so a dup2(2) to such a number never overwrites one that is still to be moved.
//
// Owns: the descriptors. Borrows: the epoll instance.
// Thread safety: thread-compatible.
class KeptFds {
 public:
  // The first descriptor that a child inherits (sd_listen_fds(3)).
  static constexpr int kFirst = 3;

  // Descriptors that are kept only until they hang up are added to `epoll`, with their number as
  // data.
  KeptFds(size_t max, int epoll) : max_(max), epoll_(epoll) {}
  // A forked child must not run this: it shares the epoll instance with its parent.
  ~KeptFds();
  KeptFds(const KeptFds&) = delete;
  KeptFds& operator=(const KeptFds&) = delete;

  size_t max() const { return max_; }
  size_t size() const { return fds_.size(); }

  // Keeps a descriptor. A name that cannot be passed on is replaced by "stored", as in systemd.
  // Errors: RESOURCE_EXHAUSTED: invariant 1, or this process may not open more files.
  absl::Status Add(absl::string_view name, UniqueFd fd, bool until_hang_up);
  // Closes all descriptors of this name. Returns how many.
  size_t Remove(absl::string_view name);
  // The epoll instance has reported this number. Closes the descriptor if it is kept here and has
  // hung up.
  void CloseIfHungUp(int fd);

  // The value of LISTEN_FDNAMES.
  std::string Names() const;
  // In a forked child that is about to exec: copies the descriptors to kFirst and above, without
  // close-on-exec. Returns whether all could be copied.
  bool PlaceForExec() const;

 private:
  struct Kept {
    std::string name;
    UniqueFd fd;
    bool watched;
  };
  using Iterator = std::list<Kept>::iterator;

  // Closes one. Returns the next.
  Iterator Close(Iterator kept);

  const size_t max_;
  const int epoll_;
  std::list<Kept> fds_;
  size_t names_bytes_ = 0;  // of all names, each with its separator
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_KEPT_FDS_H_
