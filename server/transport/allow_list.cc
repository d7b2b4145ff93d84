#include "server/transport/allow_list.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

template <typename T>
bool Contains(const std::vector<T>& list, T value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

absl::StatusOr<AllowList> AllowList::Make(const std::vector<std::string>& users,
                                          const std::vector<std::string>& groups) {
  AllowList list;
  for (const std::string& user : users) {
    uid_t uid = 0;
    // The name comes first: a user may be named "1000". A number needs no entry in the user
    // database, because a container often has none for the users of its host.
    const passwd* const entry = getpwnam(user.c_str());
    if (entry == nullptr && !absl::SimpleAtoi(user, &uid)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--allow-user ", user, ": there is no such user on this host"));
    }
    list.users_.push_back(entry == nullptr ? uid : entry->pw_uid);
  }
  for (const std::string& group : groups) {
    gid_t gid = 0;
    const ::group* const entry = getgrnam(group.c_str());
    if (entry == nullptr && !absl::SimpleAtoi(group, &gid)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--allow-group ", group, ": there is no such group on this host"));
    }
    list.groups_.push_back(entry == nullptr ? gid : entry->gr_gid);
  }
  return list;
}

absl::Status AllowList::Check(const Peer& peer) const {
  const bool open = users_.empty() && groups_.empty();
  if (open || peer.IsOperator()) return absl::OkStatus();
  // The gid of a process is not among its supplementary groups, so both are looked up.
  const bool listed = Contains(users_, peer.uid()) || Contains(groups_, peer.gid()) ||
                      std::any_of(peer.groups().begin(), peer.groups().end(),
                                  [this](gid_t gid) { return Contains(groups_, gid); });
  if (listed) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("uid ", peer.uid(),
                   " may not use this daemon; its operator adds users with --allow-user and "
                   "groups with --allow-group"));
}

}  // namespace tenure::server
