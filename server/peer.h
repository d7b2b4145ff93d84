// Who is at the other end of a connection, as the kernel says.
#ifndef SERVER_PEER_H_
#define SERVER_PEER_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "server/unique_fd.h"

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
// Source: unix(7) SO_PEERCRED, SO_PEERPIDFD (kernel 6.5), pidfd_open(2), proc(5).
class Peer {
 public:
  // The process that connected `socket`. PERMISSION_DENIED when it cannot be named: it lives in a
  // PID namespace that this one does not contain. NOT_FOUND when it is gone already.
  static absl::StatusOr<std::shared_ptr<const Peer>> OfSocket(int socket);
  // A process by number; for tests and for this process itself.
  static absl::StatusOr<std::shared_ptr<const Peer>> OfProcess(pid_t pid, uid_t uid, gid_t gid);

  pid_t pid() const { return key_.pid; }
  uid_t uid() const { return uid_; }
  gid_t gid() const { return gid_; }
  Tenant tenant() const { return Tenant{uid_}; }
  ProcessKey key() const { return key_; }
  int pidfd() const { return pidfd_.get(); }

  // Whether the whole process has exited: the pidfd is readable. One system call, never blocks.
  bool Exited() const;

 private:
  Peer(UniqueFd pidfd, ProcessKey key, uid_t uid, gid_t gid)
      : pidfd_(std::move(pidfd)), key_(key), uid_(uid), gid_(gid) {}

  static absl::StatusOr<std::shared_ptr<const Peer>> Make(UniqueFd pidfd, pid_t pid, uid_t uid,
                                                          gid_t gid);

  const UniqueFd pidfd_;
  const ProcessKey key_;
  const uid_t uid_;
  const gid_t gid_;
};

}  // namespace tenure::server

#endif  // SERVER_PEER_H_
