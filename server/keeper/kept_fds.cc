#include "server/keeper/kept_fds.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "server/keeper/fd_name.h"

namespace tenure::server {

KeptFds::~KeptFds() {
  for (Iterator kept = fds_.begin(); kept != fds_.end();) kept = Close(kept);
}

absl::Status KeptFds::Add(absl::string_view name, UniqueFd fd, bool until_hang_up) {
  if (!IsValidFdName(name)) name = "stored";
  if (fds_.size() >= max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("'", name, "' is one more than the ", max_, " file descriptors to be kept"));
  }
  if (names_bytes_ + name.size() + 1 > kMaxFdNamesBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("no room for the name '", name, "': all take ",
                                                     names_bytes_, " bytes of at most ",
                                                     kMaxFdNamesBytes));
  }
  // A copy with a high number, invariant 2. `fd` itself is closed when this returns.
  UniqueFd high(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirst + static_cast<int>(max_)));
  if (!high) {
    return absl::ResourceExhaustedError(
        absl::StrCat("'", name, "' would be more open files than this process may have"));
  }
  // No events are asked for: epoll always reports a hang-up. It refuses files and memory, which
  // never hang up; these are kept and not watched.
  epoll_event event = {};
  event.data.u64 = static_cast<uint64_t>(high.get());
  const bool watched = until_hang_up && epoll_ctl(epoll_, EPOLL_CTL_ADD, high.get(), &event) == 0;
  names_bytes_ += name.size() + 1;
  fds_.push_front(Kept{std::string(name), std::move(high), watched});
  return absl::OkStatus();
}

size_t KeptFds::Remove(absl::string_view name) {
  size_t removed = 0;
  for (Iterator kept = fds_.begin(); kept != fds_.end();) {
    if (kept->name == name) {
      kept = Close(kept);
      ++removed;
    } else {
      ++kept;
    }
  }
  return removed;
}

void KeptFds::CloseIfHungUp(int fd) {
  for (Iterator kept = fds_.begin(); kept != fds_.end(); ++kept) {
    if (kept->fd.get() != fd) continue;
    // One epoll_wait may report several events. While an earlier one was handled, this number may
    // have been closed and given to another descriptor. So the descriptor itself is asked.
    pollfd entry = {fd, 0, 0};
    if (poll(&entry, 1, 0) == 1) Close(kept);
    return;
  }
}

std::string KeptFds::Names() const {
  return absl::StrJoin(fds_, ":", [](std::string* out, const Kept& kept) { *out += kept.name; });
}

bool KeptFds::PlaceForExec() const {
  int target = kFirst;
  for (const Kept& kept : fds_) {
    if (dup2(kept.fd.get(), target++) < 0) return false;
  }
  return true;
}

KeptFds::Iterator KeptFds::Close(Iterator kept) {
  // epoll watches the open file, not the number. The daemon has the same file open, so closing this
  // number alone would leave the file watched, and its hang-up reported under a number that may
  // mean something else by then.
  if (kept->watched) epoll_ctl(epoll_, EPOLL_CTL_DEL, kept->fd.get(), nullptr);
  names_bytes_ -= kept->name.size() + 1;
  return fds_.erase(kept);
}

}  // namespace tenure::server
