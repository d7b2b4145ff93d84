// File descriptors that outlive the daemon.
#ifndef SERVER_KEEPER_FD_STORE_H_
#define SERVER_KEEPER_FD_STORE_H_

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "common/unique_fd.h"

namespace tenure::server {

// A descriptor and the name by which the next daemon finds it again.
struct NamedFd {
  absl::string_view name;
  int fd = -1;
};

// The daemon's side of the file descriptor store of its supervisor, systemd or `tenured --keeper`.
// The supervisor keeps a copy of each stored descriptor and gives all of them back to every daemon
// that it starts, until they are removed.
//
// Invariants:
//   1. A name is stored once. (The supervisor would keep both.)
//   2. Never more than max() descriptors, and never more names than one environment variable holds:
//      systemd drops what is too much and tells nobody, and could start nothing if it did not.
//
// Owns: the descriptors that came with the start, until TakeInherited.
// Thread safety: thread-safe. A call waits while the supervisor's socket is full.
// Errors: UNAVAILABLE, there is no supervisor, or it is gone; DEADLINE_EXCEEDED, it does not
// answer; RESOURCE_EXHAUSTED, invariant 2; ALREADY_EXISTS, invariant 1; INVALID_ARGUMENT, a name
// that cannot be passed on. Source: sd_listen_fds_with_names(3), sd_pid_notify_with_fds(3),
// sd_notify_barrier(3).
class FdStore {
 public:
  // The longest that Store waits for the supervisor's word.
  static constexpr absl::Duration kBarrierTimeout = absl::Seconds(5);

  // Takes over what the supervisor passed on, and its variables out of the environment. $FDSTORE,
  // which systemd sets from version 254 on and the keeper always, is the maximum; without it
  // `default_max` must be what the unit says in FileDescriptorStoreMax=. No threads may run yet.
  // INVALID_ARGUMENT when the supervisor's variables make no sense.
  static absl::StatusOr<std::unique_ptr<FdStore>> FromEnvironment(size_t default_max);

  FdStore(const FdStore&) = delete;
  FdStore& operator=(const FdStore&) = delete;

  // Whether there is a store at all: a supervisor that hears, and a maximum above 0.
  bool available() const { return supervised_ && max_ > 0; }
  size_t max() const { return max_; }
  // UNAVAILABLE when the supervisor has ended, as far as its socket tells. Sends nothing.
  absl::Status CheckSupervisor() const;
  // How many descriptors the supervisor keeps for us.
  size_t size() const;

  // What the daemon before this one stored, once. It stays stored. Of descriptors with the same
  // name, which none of our daemons leaves, only the first is there.
  std::map<std::string, UniqueFd> TakeInherited();

  // All of them or none, in one wait: once it returns OK, the supervisor has them and the death of
  // this process loses nothing. systemd keeps one copy of descriptors that are the same open file,
  // under the name that came first.
  absl::Status Store(absl::Span<const NamedFd> fds);
  absl::Status Store(absl::string_view name, int fd) { return Store({{name, fd}}); }

  // Tells the supervisor to close its copy, and does not wait. NOT_FOUND for a name that is not
  // stored. A process that dies at this moment may leave its successor what it removed.
  absl::Status Remove(absl::string_view name);

 private:
  FdStore(bool supervised, size_t max, std::map<std::string, UniqueFd> inherited);

  absl::Status Admit(absl::Span<const NamedFd> fds) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Send(absl::Span<const NamedFd> fds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes back what Send sent.
  void Withdraw(absl::Span<const NamedFd> fds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Forget(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const bool supervised_;
  const size_t max_;
  // The order in which the supervisor hears of a name is the order in which the books have it.
  mutable absl::Mutex mutex_;
  std::set<std::string, std::less<>> names_ ABSL_GUARDED_BY(mutex_);
  // Of the names, each with what separates it from the next.
  size_t names_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, UniqueFd> inherited_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_FD_STORE_H_
