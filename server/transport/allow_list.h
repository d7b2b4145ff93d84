// Whom the operator lets in.
#ifndef SERVER_TRANSPORT_ALLOW_LIST_H_
#define SERVER_TRANSPORT_ALLOW_LIST_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/identity/peer.h"

namespace tenure::server {

// Users and groups who may lease. Empty: everybody whom the socket's mode lets connect.
//
// Thread safety: immutable after construction.
class AllowList {
 public:
  AllowList() = default;
  // Each is a name or a number. INVALID_ARGUMENT: there is no such user or group on this host.
  static absl::StatusOr<AllowList> Make(const std::vector<std::string>& users,
                                        const std::vector<std::string>& groups);

  // OK for root and the daemon's own user, for a user on the list, and for a member of a group on
  // it. PERMISSION_DENIED otherwise.
  absl::Status Check(const Peer& peer) const;

 private:
  std::vector<uid_t> users_;
  std::vector<gid_t> groups_;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_ALLOW_LIST_H_
