#include "server/keeper/fd_store.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <systemd/sd-daemon.h>

#include "common/status_macros.h"
#include "common/unique_fd.h"
#include "server/keeper/fd_name.h"

namespace tenure::server {
namespace {

// The strings of sd_listen_fds_with_names, which its caller frees.
class FdNames {
 public:
  ~FdNames() {
    for (char** name = names_; name != nullptr && *name != nullptr; ++name) std::free(*name);
    std::free(names_);
  }
  char*** out() { return &names_; }
  absl::string_view operator[](int i) const { return names_[i]; }

 private:
  char** names_ = nullptr;
};

constexpr absl::string_view kSupervisorEnded =
    "the supervisor that keeps file descriptors for the daemon has ended";

bool HasEnded(int error) { return error == ECONNREFUSED || error == ENOENT; }

absl::Status SupervisorError(int error, absl::string_view what) {
  if (HasEnded(error)) return absl::UnavailableError(absl::StrCat(what, ": ", kSupervisorEnded));
  return absl::ErrnoToStatus(error, what);
}

absl::StatusOr<size_t> MaximumOr(size_t default_max) {
  const char* text = std::getenv("FDSTORE");
  if (text == nullptr) return default_max;
  uint32_t max = 0;
  if (!absl::SimpleAtoi(text, &max)) {
    return absl::InvalidArgumentError(
        absl::StrCat("$FDSTORE is '", text, "', which is not a number of file descriptors"));
  }
  return max;
}

// Sends one message. After OK it is in the supervisor's socket; the supervisor may not have read
// it.
absl::Status Notify(const std::string& message, const int* fd, absl::string_view what) {
  const int result = sd_pid_notify_with_fds(0, 0, message.c_str(), fd, fd == nullptr ? 0 : 1);
  if (result < 0) return SupervisorError(-result, what);
  if (result == 0) return absl::UnavailableError(absl::StrCat(what, ": $NOTIFY_SOCKET is gone"));
  return absl::OkStatus();
}

// Waits until the supervisor has handled all messages that were sent before. It learns that from a
// pipe: the message carries one end, and the supervisor closes it when it comes to the message.
absl::Status Barrier() {
  const uint64_t timeout =
      static_cast<uint64_t>(absl::ToInt64Microseconds(FdStore::kBarrierTimeout));
  constexpr absl::string_view kWhat = "cannot learn whether file descriptors are stored";
  const int result = sd_notify_barrier(0, timeout);
  if (result > 0) return absl::OkStatus();
  if (result == -ETIMEDOUT) {
    return absl::DeadlineExceededError(
        absl::StrCat(kWhat, ": the supervisor has not answered for ",
                     absl::FormatDuration(FdStore::kBarrierTimeout)));
  }
  if (result == 0) return absl::UnavailableError(absl::StrCat(kWhat, ": $NOTIFY_SOCKET is gone"));
  return SupervisorError(-result, kWhat);
}

}  // namespace

absl::StatusOr<std::unique_ptr<FdStore>> FdStore::FromEnvironment(size_t default_max) {
  TENURE_ASSIGN_OR_RETURN(const size_t max, MaximumOr(default_max));
  FdNames names;
  const int count = sd_listen_fds_with_names(/*unset_environment=*/1, names.out());
  if (count < 0) {
    return absl::InvalidArgumentError(
        "$LISTEN_PID, $LISTEN_FDS and $LISTEN_FDNAMES contradict each other");
  }
  std::map<std::string, UniqueFd> received;
  for (int i = 0; i < count; ++i) {
    received.try_emplace(std::string(names[i]), UniqueFd(SD_LISTEN_FDS_START + i));
  }
  // A child of the daemon must not take these for its own.
  unsetenv("FDSTORE");
  const bool kept = std::getenv("TENURE_KEEPER") != nullptr;
  unsetenv("TENURE_KEEPER");
  const char* socket = std::getenv("NOTIFY_SOCKET");
  const bool supervised = socket != nullptr && *socket != 0;
  return std::unique_ptr<FdStore>(new FdStore(supervised, kept, max, std::move(received)));
}

FdStore::FdStore(bool supervised, bool ends_with_exit_0, size_t max,
                 std::map<std::string, UniqueFd> received)
    : supervised_(supervised),
      ends_with_exit_0_(ends_with_exit_0),
      max_(max),
      received_(std::move(received)) {
  for (const auto& [name, fd] : received_) {
    names_.insert(name);
    names_bytes_ += name.size() + 1;
  }
}

absl::Status FdStore::CheckSupervisor() const {
  const char* name = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const absl::string_view path = name == nullptr ? "" : name;
  const bool is_unix = absl::StartsWith(path, "/") || absl::StartsWith(path, "@");
  // sd_notify(3) also knows other kinds of sockets, which cannot be asked this way.
  if (!is_unix || path.size() > sizeof address.sun_path) return absl::OkStatus();
  path.copy(address.sun_path, sizeof address.sun_path);
  if (path.front() == '@') address.sun_path[0] = 0;  // an abstract name
  // A datagram socket connects without a message, and only if a process has the name bound.
  const UniqueFd probe(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (probe && connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 &&
      HasEnded(errno)) {
    return absl::UnavailableError(kSupervisorEnded);
  }
  return absl::OkStatus();
}

size_t FdStore::size() const {
  const absl::MutexLock lock(&mu_);
  return names_.size() - names_.count(kClaim);
}

bool FdStore::keeps_claim() const {
  const absl::MutexLock lock(&mu_);
  return names_.contains(kClaim);
}

UniqueFd FdStore::TakeClaim() {
  const absl::MutexLock lock(&mu_);
  auto claim = received_.extract(std::string(kClaim));
  return claim.empty() ? UniqueFd() : std::move(claim.mapped());
}

std::map<std::string, UniqueFd> FdStore::TakeStored() {
  const absl::MutexLock lock(&mu_);
  auto claim = received_.extract(std::string(kClaim));
  std::map<std::string, UniqueFd> memory = std::exchange(received_, {});
  received_.insert(std::move(claim));
  return memory;
}

absl::Status FdStore::Store(absl::Span<const NamedFd> fds) {
  {
    const absl::MutexLock lock(&mu_);
    TENURE_RETURN_IF_ERROR(CheckStorable(fds));
    TENURE_RETURN_IF_ERROR(SendAll(fds));
  }
  // Without the lock, so that other threads can store meanwhile. Their messages come after these,
  // so the answer to this barrier covers these.
  absl::Status stored = Barrier();
  if (!stored.ok()) {
    // Whether they are stored is not known. They are removed, so that the caller can try again
    // under the same names.
    const absl::MutexLock lock(&mu_);
    RemoveAll(fds);
  }
  return stored;
}

absl::Status FdStore::Remove(absl::string_view name) {
  const absl::MutexLock lock(&mu_);
  if (!names_.contains(name)) {
    return absl::NotFoundError(absl::StrCat("no file descriptor is stored as '", name, "'"));
  }
  return RemoveOne(name);
}

absl::Status FdStore::CheckStorable(absl::Span<const NamedFd> fds) const {
  if (!available()) {
    return absl::UnavailableError(
        "no supervisor keeps file descriptors for this daemon: run it under systemd with "
        "FileDescriptorStoreMax=, or as `tenured --keeper`");
  }
  std::set<absl::string_view> batch;
  size_t bytes = names_bytes_;
  for (const NamedFd& named : fds) {
    if (!IsValidFdName(named.name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a file descriptor cannot be stored under a name of ", named.name.size(),
                       " bytes: 1 to ", kMaxFdNameBytes, " of printable ASCII without ':' can be"));
    }
    if (named.fd < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("no file descriptor to store as '", named.name, "'"));
    }
    if (names_.contains(named.name) || !batch.insert(named.name).second) {
      return absl::AlreadyExistsError(
          absl::StrCat("a file descriptor is stored as '", named.name, "' already"));
    }
    bytes += named.name.size() + 1;
  }
  if (fds.size() > max_ || names_.size() > max_ - fds.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot store ", fds.size(), " more file descriptors: the supervisor keeps ",
                     names_.size(), " of at most ", max_));
  }
  if (bytes > kMaxFdNamesBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot store ", fds.size(), " more file descriptors: the names of all would take ", bytes,
        " bytes of at most ", kMaxFdNamesBytes));
  }
  return absl::OkStatus();
}

absl::Status FdStore::SendAll(absl::Span<const NamedFd> fds) {
  for (size_t i = 0; i < fds.size(); ++i) {
    const NamedFd& named = fds[i];
    // Recorded before the message is sent: if sending fails half-way, RemoveAll finds it.
    names_.emplace(named.name);
    names_bytes_ += named.name.size() + 1;
    // FDPOLL=0: the supervisor need not watch it, because memory never hangs up.
    const absl::Status sent =
        Notify(absl::StrCat("FDSTORE=1\nFDPOLL=0\nFDNAME=", named.name), &named.fd,
               absl::StrCat("cannot store a file descriptor as '", named.name, "'"));
    if (!sent.ok()) {
      RemoveAll(fds.first(i + 1));
      return sent;
    }
  }
  return absl::OkStatus();
}

void FdStore::RemoveAll(absl::Span<const NamedFd> fds) {
  // The result does not matter: a supervisor that gets no message any more has ended, and keeps no
  // descriptor either.
  for (const NamedFd& named : fds) {
    if (names_.contains(named.name)) RemoveOne(named.name).IgnoreError();
  }
}

absl::Status FdStore::RemoveOne(absl::string_view name) {
  // Also when the message cannot be sent: the name is free again, and a supervisor that is gone
  // keeps nothing.
  names_.erase(names_.find(name));
  names_bytes_ -= name.size() + 1;
  return Notify(absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name), nullptr,
                absl::StrCat("cannot remove the stored file descriptor '", name, "'"));
}

}  // namespace tenure::server
