// The users and groups that may use the daemon.
#ifndef SERVER_TRANSPORT_ALLOW_LIST_H_
#define SERVER_TRANSPORT_ALLOW_LIST_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/identity/peer.h"

namespace tenure::server {

// The users and groups that the operator names with --allow-user and --allow-group. An empty list
// allows every user; the mode of the socket file still limits which users can connect.
//
// Thread safety: immutable after construction.
class AllowList {
 public:
  AllowList() = default;
  // Each entry is a name or a number.
  // Errors: INVALID_ARGUMENT: this host has no such user or group.
  static absl::StatusOr<AllowList> Make(const std::vector<std::string>& users,
                                        const std::vector<std::string>& groups);

  // OK for root and the daemon's own user, for a user on the list, and for a member of a group on
  // the list.
  // Errors: PERMISSION_DENIED: any other user.
  absl::Status Check(const Peer& peer) const;

 private:
  std::vector<uid_t> users_;
  std::vector<gid_t> groups_;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_ALLOW_LIST_H_
