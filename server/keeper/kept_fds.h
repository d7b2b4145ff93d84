// The file descriptors that a keeper holds for its daemon.
#ifndef SERVER_KEEPER_KEPT_FDS_H_
#define SERVER_KEEPER_KEPT_FDS_H_

#include <cstddef>
#include <list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace tenure::server {

// Named descriptors, in the order in which systemd passes them on: the latest first. As there,
// names need not be unique.
//
// Invariants:
//   1. Never more than max(), and never more names than one environment variable holds.
//   2. All lie above the numbers under which a child finds them, so that none is in the way of
//      another while a child puts them there.
//
// Owns: the descriptors. Borrows: the epoll instance.
// Thread safety: thread-compatible.
class KeptFds {
 public:
  // The first descriptor that a child inherits (sd_listen_fds(3)).
  static constexpr int kFirst = 3;

  // Descriptors that shall go when they hang up are put into `epoll` with their number as data.
  KeptFds(size_t max, int epoll) : max_(max), epoll_(epoll) {}
  // A child of the process that made it must not destroy it: the epoll instance is shared.
  ~KeptFds();
  KeptFds(const KeptFds&) = delete;
  KeptFds& operator=(const KeptFds&) = delete;

  size_t max() const { return max_; }
  size_t size() const { return fds_.size(); }

  // RESOURCE_EXHAUSTED: invariant 1, or this process may not open more. A name that cannot be
  // passed on becomes "stored", as in systemd.
  absl::Status Add(absl::string_view name, UniqueFd fd, bool until_hang_up);
  // Closes all of this name; how many.
  size_t Remove(absl::string_view name);
  // The epoll instance reported this number. Closes it if it is one of ours and has hung up.
  void HungUp(int fd);

  // LISTEN_FDNAMES.
  std::string Names() const;
  // In a forked child that is about to exec: puts them at kFirst and above, open beyond exec.
  // Whether that went well.
  bool MoveIntoPlace() const;

 private:
  struct Kept {
    std::string name;
    UniqueFd fd;
    bool watched;
  };
  using Place = std::list<Kept>::iterator;

  Place Drop(Place place);

  const size_t max_;
  const int epoll_;
  std::list<Kept> fds_;
  size_t names_bytes_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_KEPT_FDS_H_
