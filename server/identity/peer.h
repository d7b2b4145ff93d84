// The process at the other end of a connection, as the kernel names it.
#ifndef SERVER_IDENTITY_PEER_H_
#define SERVER_IDENTITY_PEER_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/unique_fd.h"

namespace tenure::server {

// The trust and quota domain of a session: its uid.
struct Tenant {
  uid_t uid = 0;
  auto operator<=>(const Tenant&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const Tenant& tenant) {
    return H::combine(std::move(h), tenant.uid);
  }
  std::string ToString() const;
};

// Names one process among all that ever ran on this host since its boot. A pid is used again, but
// not together with the same start time.
struct ProcessKey {
  pid_t pid = 0;
  // In clock ticks after boot: field 22 of /proc/PID/stat.
  uint64_t start_time = 0;
  auto operator<=>(const ProcessKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const ProcessKey& key) {
    return H::combine(std::move(h), key.pid, key.start_time);
  }
};

// A process and the rights with which it connected. It is held by a pidfd, which refers to this
// process even after its pid belongs to another one.
//
// Owns: the pidfd.
// Thread safety: immutable after construction.
// Source: unix(7) SO_PEERCRED, SO_PEERPIDFD (kernel 6.5), SO_PEERGROUPS, pidfd_open(2),
// pidfd_send_signal(2), proc(5).
class Peer {
 public:
  // The process that connected `socket`.
  // Errors: PERMISSION_DENIED: the process has no pid here, because it lives in a PID namespace
  // that this one does not contain. NOT_FOUND: it has exited. Others as OfProcess.
  static absl::StatusOr<std::shared_ptr<const Peer>> OfSocket(int socket);
  // The process with this pid, which is taken to have these rights. For tests and for processes
  // that an earlier daemon served.
  // Errors: NOT_FOUND: it has exited. Any other: whether it has exited is not known, because this
  // process has no descriptor or no memory left.
  static absl::StatusOr<std::shared_ptr<const Peer>> OfProcess(pid_t pid, uid_t uid, gid_t gid);
  // A process that has exited, without a pidfd.
  static std::shared_ptr<const Peer> Gone(ProcessKey key, uid_t uid, gid_t gid);
  // A process that does not exist. It counts as exited once `pidfd` is readable. For tests.
  static std::shared_ptr<const Peer> Imagined(UniqueFd pidfd, ProcessKey key, uid_t uid);

  pid_t pid() const { return key_.pid; }
  uid_t uid() const { return uid_; }
  gid_t gid() const { return gid_; }
  // The supplementary groups; gid() is not among them.
  const std::vector<gid_t>& groups() const { return groups_; }
  Tenant tenant() const { return Tenant{uid_}; }
  ProcessKey key() const { return key_; }
  int pidfd() const { return pidfd_.get(); }
  // Root, or the user that the daemon runs as.
  bool IsOperator() const;

  // Whether the whole process has exited, which makes its pidfd readable. One system call; never
  // blocks. A Peer without a pidfd has exited.
  bool Exited() const;
  // Whether it is stopped by SIGSTOP or a debugger: state T or t in /proc/PID/stat.
  bool Stopped() const;
  // Sends SIGKILL to this process.
  // Errors: PERMISSION_DENIED: the daemon may not. NOT_FOUND: the process has exited.
  absl::Status Kill() const;

 private:
  Peer(UniqueFd pidfd, ProcessKey key, uid_t uid, gid_t gid, std::vector<gid_t> groups)
      : pidfd_(std::move(pidfd)), key_(key), uid_(uid), gid_(gid), groups_(std::move(groups)) {}

  static absl::StatusOr<std::shared_ptr<const Peer>> Make(UniqueFd pidfd, pid_t pid, uid_t uid,
                                                          gid_t gid, std::vector<gid_t> groups);

  const UniqueFd pidfd_;
  const ProcessKey key_;
  const uid_t uid_;
  const gid_t gid_;
  const std::vector<gid_t> groups_;
};

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_PEER_H_
