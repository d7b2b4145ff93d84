#include "server/instance_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>
#include <systemd/sd-login.h>

#include "common/check.h"
#include "common/status_macros.h"

namespace tenure::server {
namespace {

constexpr absl::Duration kNamePause = absl::Seconds(1);
// How many of those that ask are answered at once.
constexpr int kAnsweredAtOnce = 256;

struct Address {
  explicit Address(const std::string& name)
      // An abstract name begins with a zero byte and has no terminator.
      : length(static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())) {
    TENURE_CHECK(name.size() + 1 < sizeof address.sun_path);
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }

  sockaddr_un address = {};
  socklen_t length;
};

absl::Status AnotherDaemon(const std::string& holder) {
  return absl::AlreadyExistsError(absl::StrCat("another tenured owns the device (", holder,
                                               "); a device has one daemon: use that one, or stop "
                                               "it first"));
}

// Who is to be stopped before another daemon can have the device: the supervisor of this one, else
// this process.
std::string NameOfService(const FdStore& store) {
  if (!store.available()) return absl::StrCat("tenured, process ", getpid());
  if (store.ends_with_exit_0()) return absl::StrCat("tenured --keeper, process ", getppid());
  char* unit = nullptr;
  if (sd_pid_get_user_unit(0, &unit) < 0 && sd_pid_get_unit(0, &unit) < 0) {
    return absl::StrCat("the service of process ", getpid());
  }
  std::string name = absl::StrCat("the service ", unit);
  std::free(unit);
  return name;
}

// Writes the holder's name into the lock's file, or reads it there. The name is for messages only.
void WriteHolder(int file, const std::string& name) {
  if (ftruncate(file, 0) == 0 &&
      pwrite(file, name.data(), name.size(), 0) != static_cast<ssize_t>(name.size())) {
    spdlog::debug("the name of this service could not be written into the lock of its device");
  }
}

std::string ReadHolder(int file) {
  std::array<char, 256> name;
  const ssize_t length = pread(file, name.data(), name.size(), 0);
  return length <= 0 ? "it" : std::string(name.data(), static_cast<size_t>(length));
}

bool IsNamed(int file, const std::string& path) {
  struct stat ours = {};
  struct stat named = {};
  return fstat(file, &ours) == 0 && stat(path.c_str(), &named) == 0 &&
         ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

// Opens the file and locks it.
absl::StatusOr<UniqueFd> LockFile(const std::string& path) {
  while (true) {
    UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
    if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) {
        return AnotherDaemon(absl::StrCat(ReadHolder(file.get()), " has locked ", path));
      }
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", path));
    }
    // A daemon that ends removes its file. If that came between the two calls above, this lock is
    // on a file without a name, and the next daemon would lock another one.
    if (IsNamed(file.get(), path)) return file;
  }
}

// The process that listens under this name; nullopt if none answers.
std::optional<ucred> ListenerOf(const Address& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ucred holder = {};
  socklen_t length = sizeof holder;
  if (connect(probe.get(), address.get(), address.length) != 0 ||
      getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &holder, &length) != 0) {
    return std::nullopt;
  }
  return holder;
}

}  // namespace

absl::StatusOr<DeviceClaim> DeviceClaim::Take(const std::string& folder,
                                              const std::string& device_uuid, FdStore& store,
                                              const Clock& clock) {
  const std::string path = absl::StrCat(folder, "/", device_uuid, ".lock");
  UniqueFd lock = store.TakeClaim();
  // The one that was kept is of another device after a change of --device, and of nothing when
  // somebody has removed its file. A lock belongs to the open file, so this process has it already.
  const bool kept = lock && IsNamed(lock.get(), path);
  if (!kept) {
    TENURE_ASSIGN_OR_RETURN(lock, LockFile(path));
  }
  WriteHolder(lock.get(), NameOfService(store));
  DeviceClaim claim(path, absl::StrCat("tenured-", device_uuid), std::move(lock), clock);
  claim.kept_ = kept;
  TENURE_RETURN_IF_ERROR(claim.TakeName());
  return claim;
}

absl::Status DeviceClaim::Keep(FdStore& store) const {
  if (kept_) return absl::OkStatus();
  if (store.keeps_claim()) TENURE_RETURN_IF_ERROR(store.Remove(FdStore::kClaim));
  return store.Store(FdStore::kClaim, lock_.get());
}

DeviceClaim::DeviceClaim(std::string path, std::string name, UniqueFd lock, const Clock& clock)
    : path_(std::move(path)), name_(std::move(name)), lock_(std::move(lock)), clock_(&clock) {}

absl::Status DeviceClaim::TakeName() {
  next_try_ = clock_->Now() + kNamePause;
  const Address address(name_);
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (bind(listener.get(), address.get(), address.length) == 0 &&
      listen(listener.get(), kAnsweredAtOnce) == 0) {
    listener_ = std::move(listener);
    return absl::OkStatus();
  }
  std::string trouble =
      absl::StrCat("cannot listen under the name ", name_, ": ", std::strerror(errno));
  if (errno == EADDRINUSE) {
    const std::optional<ucred> holder = ListenerOf(address);
    if (holder && (holder->uid == 0 || holder->uid == geteuid())) {
      return AnotherDaemon(absl::StrCat("process ", holder->pid));
    }
    const std::string who = holder ? absl::StrCat("process ", holder->pid, " of uid ", holder->uid,
                                                  ", which is neither root nor the daemon's user,")
                                   : "a process that does not answer";
    trouble = absl::StrCat(who, " has the name ", name_,
                           ", by which the daemons of a device find each other");
  }
  if (trouble != trouble_) spdlog::warn("{}; the daemon serves all the same", trouble);
  trouble_ = std::move(trouble);
  return absl::OkStatus();
}

void DeviceClaim::Maintain() {
  if (listener_) {
    for (int i = 0; i < kAnsweredAtOnce; ++i) {
      if (!UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC))) return;
    }
    return;
  }
  if (clock_->Now() < next_try_) return;
  // A daemon that has come meanwhile is not this one's to stop.
  if (absl::Status taken = TakeName(); !taken.ok()) {
    if (trouble_ != taken.message()) spdlog::warn("{}", std::string(taken.message()));
    trouble_ = std::string(taken.message());
  }
}

void DeviceClaim::RemoveFile() {
  if (lock_) unlink(path_.c_str());
}

}  // namespace tenure::server
