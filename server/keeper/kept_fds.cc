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
  for (Place place = fds_.begin(); place != fds_.end();) place = Drop(place);
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
  UniqueFd high(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirst + static_cast<int>(max_)));
  if (!high) {
    return absl::ResourceExhaustedError(
        absl::StrCat("'", name, "' would be more open files than this process may have"));
  }
  // Not everything can be watched: files and memory never hang up, and epoll refuses them.
  epoll_event event = {};
  event.data.u64 = static_cast<uint64_t>(high.get());
  const bool watched = until_hang_up && epoll_ctl(epoll_, EPOLL_CTL_ADD, high.get(), &event) == 0;
  names_bytes_ += name.size() + 1;
  fds_.push_front(Kept{std::string(name), std::move(high), watched});
  return absl::OkStatus();
}

size_t KeptFds::Remove(absl::string_view name) {
  size_t removed = 0;
  for (Place place = fds_.begin(); place != fds_.end();) {
    if (place->name == name) {
      place = Drop(place);
      ++removed;
    } else {
      ++place;
    }
  }
  return removed;
}

void KeptFds::HungUp(int fd) {
  for (Place place = fds_.begin(); place != fds_.end(); ++place) {
    if (place->fd.get() != fd) continue;
    // The report may be about an earlier descriptor with this number.
    pollfd entry = {fd, 0, 0};
    if (poll(&entry, 1, 0) == 1) Drop(place);
    return;
  }
}

std::string KeptFds::Names() const {
  return absl::StrJoin(fds_, ":", [](std::string* out, const Kept& kept) { *out += kept.name; });
}

bool KeptFds::MoveIntoPlace() const {
  int target = kFirst;
  for (const Kept& kept : fds_) {
    if (dup2(kept.fd.get(), target++) < 0) return false;
  }
  return true;
}

KeptFds::Place KeptFds::Drop(Place place) {
  // Closing is not enough: it stays watched for as long as the daemon has it open.
  if (place->watched) epoll_ctl(epoll_, EPOLL_CTL_DEL, place->fd.get(), nullptr);
  names_bytes_ -= place->name.size() + 1;
  return fds_.erase(place);
}

}  // namespace tenure::server
