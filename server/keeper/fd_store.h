// The daemon's client for a store of file descriptors that outlives the daemon.
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

// A descriptor and the name under which the next daemon gets it.
struct NamedFd {
  absl::string_view name;
  int fd = -1;
};

// Talks to the daemon's supervisor, which is systemd or `tenured --keeper`. The supervisor keeps a
// copy of each stored descriptor, and passes all of them to each daemon that it starts, until they
// are removed.
//
// Invariants:
//   1. A name is stored once. (The supervisor would keep both descriptors.)
//   2. There are never more than max() descriptors, and never more names than one environment
//      variable holds. systemd drops a descriptor beyond its maximum without an answer, and could
//      not start the next daemon if the variable grew too long.
//
// Owns: the descriptors that came with the start, until they are taken.
// Thread safety: thread-safe. A call waits while the supervisor's socket is full.
// Errors: UNAVAILABLE: there is no supervisor, or it has ended. DEADLINE_EXCEEDED: it does not
// answer. RESOURCE_EXHAUSTED: invariant 2. ALREADY_EXISTS: invariant 1. INVALID_ARGUMENT: a name
// that cannot be passed on.
// Source: sd_listen_fds_with_names(3), sd_pid_notify_with_fds(3), sd_notify_barrier(3).
class FdStore {
 public:
  // The one descriptor that is no memory: the lock by which the daemon has claimed its device.
  // While the supervisor keeps it, nobody else takes the device between two lives.
  static constexpr absl::string_view kClaim = "claim";
  // The longest time that Store waits for the supervisor's answer.
  static constexpr absl::Duration kBarrierTimeout = absl::Seconds(5);

  // Reads the descriptors that the supervisor passed on, and removes its variables from the
  // environment. The maximum is $FDSTORE, which the keeper sets always and systemd from version 254
  // on. Without it, it is `default_max`, which must equal FileDescriptorStoreMax= of the unit.
  // REQUIRES: no other thread runs.
  // Errors: INVALID_ARGUMENT: the variables contradict each other.
  static absl::StatusOr<std::unique_ptr<FdStore>> FromEnvironment(size_t default_max);

  FdStore(const FdStore&) = delete;
  FdStore& operator=(const FdStore&) = delete;

  // Whether there is a store: a supervisor that takes messages, and a maximum above 0.
  bool available() const { return supervised_ && max_ > 0; }
  size_t max() const { return max_; }
  // Whether what is stored ends when this process ends with exit code 0. It does with the keeper,
  // which then ends as well ($TENURE_KEEPER); with systemd the unit decides.
  bool ends_with_exit_0() const { return ends_with_exit_0_; }
  // Whether the supervisor still listens on its socket. Sends nothing.
  // Errors: UNAVAILABLE: it has ended.
  absl::Status CheckSupervisor() const;
  // How many descriptors of memory the supervisor keeps for this daemon.
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_);
  // Whether the supervisor keeps the claim of the device beside them.
  bool keeps_claim() const ABSL_LOCKS_EXCLUDED(mu_);

  // Returns the claim that an earlier daemon stored, once; -1 if there is none.
  UniqueFd TakeClaim() ABSL_LOCKS_EXCLUDED(mu_);
  // Returns the memory that earlier daemons stored, by name; a second call returns none. The
  // supervisor keeps its copies. If several have the same name, which no tenured leaves behind,
  // only the first is returned.
  std::map<std::string, UniqueFd> TakeStored() ABSL_LOCKS_EXCLUDED(mu_);

  // Stores all of them or none, and waits once. After OK the supervisor has them, and the death of
  // this process loses none. If two are the same open file, systemd keeps one copy, under the name
  // that came first.
  absl::Status Store(absl::Span<const NamedFd> fds) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Store(absl::string_view name, int fd) { return Store({{name, fd}}); }

  // Tells the supervisor to close its copy, and does not wait for that. If this process dies now,
  // the next daemon may still get the descriptor.
  // Errors: NOT_FOUND: no descriptor has this name.
  absl::Status Remove(absl::string_view name) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  FdStore(bool supervised, bool ends_with_exit_0, size_t max,
          std::map<std::string, UniqueFd> received);

  // Whether these can be stored beside those that are.
  absl::Status CheckStorable(absl::Span<const NamedFd> fds) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SendAll(absl::Span<const NamedFd> fds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Removes those that SendAll sent.
  void RemoveAll(absl::Span<const NamedFd> fds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status RemoveOne(absl::string_view name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const bool supervised_;
  const bool ends_with_exit_0_;
  const size_t max_;
  // Messages are sent under this lock, so that the supervisor gets them in the order in which
  // names_ changes. No barrier is waited for under it.
  mutable absl::Mutex mu_;
  std::set<std::string, std::less<>> names_ ABSL_GUARDED_BY(mu_);  // of all stored descriptors
  // Of all names, each with its separator.
  size_t names_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, UniqueFd> received_ ABSL_GUARDED_BY(mu_);  // until they are taken
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_FD_STORE_H_
