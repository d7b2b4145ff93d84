// Who is at the other end of a connection, as the kernel says.
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

// One process among all that ever lived on this host: pids come again, start times do not come
// again with them.
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

// A process that connected. Holds it by a pidfd, so that its pid cannot come to mean another
// process unnoticed.
//
// Owns: the pidfd.
// Thread safety: immutable after construction.
// Source: unix(7) SO_PEERCRED, SO_PEERPIDFD (kernel 6.5), SO_PEERGROUPS, pidfd_open(2),
// pidfd_send_signal(2), proc(5).
class Peer {
 public:
  // The process that connected `socket`. PERMISSION_DENIED when it cannot be named: it lives in a
  // PID namespace that this one does not contain. NOT_FOUND when it is gone already.
  static absl::StatusOr<std::shared_ptr<const Peer>> OfSocket(int socket);
  // A process by number; for tests and for this process itself.
  static absl::StatusOr<std::shared_ptr<const Peer>> OfProcess(pid_t pid, uid_t uid, gid_t gid);
  // A process that was there once and is not any more.
  static std::shared_ptr<const Peer> Gone(ProcessKey key, uid_t uid, gid_t gid);
  // A process that is not one: it has exited once `pidfd` is readable. For simulations.
  static std::shared_ptr<const Peer> Imagined(UniqueFd pidfd, ProcessKey key, uid_t uid);

  pid_t pid() const { return key_.pid; }
  uid_t uid() const { return uid_; }
  gid_t gid() const { return gid_; }
  // Beside the gid.
  const std::vector<gid_t>& groups() const { return groups_; }
  Tenant tenant() const { return Tenant{uid_}; }
  ProcessKey key() const { return key_; }
  int pidfd() const { return pidfd_.get(); }
  // Root, or the user that the daemon runs as.
  bool IsOperator() const;

  // Whether the whole process has exited: the pidfd is readable. One system call, never blocks.
  // What has no pidfd has exited long ago.
  bool Exited() const;
  // Whether it is stopped, by SIGSTOP or a debugger: state T or t in /proc/PID/stat.
  bool Stopped() const;
  // SIGKILL, to this process and no other that may have its pid. PERMISSION_DENIED: the daemon may
  // not; NOT_FOUND: it is gone already.
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
