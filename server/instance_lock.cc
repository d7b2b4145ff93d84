#include "server/instance_lock.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "common/check.h"

namespace tenure::server {

absl::StatusOr<UniqueFd> ClaimDevice(const std::string& device_uuid) {
  const std::string name = absl::StrCat("tenured-", device_uuid);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // An abstract name begins with a zero byte and has no terminator.
  TENURE_CHECK(name.size() + 1 < sizeof address.sun_path);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const socklen_t length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  UniqueFd claim(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!claim) return absl::ErrnoToStatus(errno, "cannot open a socket");
  if (bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0) return claim;
  // The kernel frees the name with its socket, so a name that is in use has a living owner.
  if (errno != EADDRINUSE)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot claim device ", device_uuid));
  return absl::AlreadyExistsError(
      absl::StrCat("another tenured owns device ", device_uuid,
                   "; a device has one daemon: use that one, or stop it first"));
}

}  // namespace tenure::server
