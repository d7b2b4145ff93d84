// Where a supervised process sends what sd_notify(3) says.
#ifndef SERVER_KEEPER_NOTIFY_SOCKET_H_
#define SERVER_KEEPER_NOTIFY_SOCKET_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace tenure::server {

// One message, and who sent it: as the kernel says, not as the sender does.
struct NotifyMessage {
  pid_t pid = 0;
  uid_t uid = 0;
  std::vector<std::string> lines;
  std::vector<UniqueFd> fds;

  bool Has(absl::string_view line) const;
  // What follows `key` and '=' on the first line that begins so.
  std::optional<std::string> Value(absl::string_view key) const;
};

// A datagram socket in a folder that only this user may enter, so that strangers cannot fill it.
//
// Owns: the socket and the folder, which go with it; a killed owner leaves both behind.
// Thread safety: thread-compatible.
class NotifySocket {
 public:
  // In $XDG_RUNTIME_DIR, else $TMPDIR, else /tmp.
  static absl::StatusOr<std::unique_ptr<NotifySocket>> Open();
  ~NotifySocket();
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

  // The next message that has come; nullopt when there is none. What is no whole message, or none
  // of this protocol, comes without lines and descriptors, and from nobody: pid 0.
  std::optional<NotifyMessage> Receive();

 private:
  NotifySocket(UniqueFd fd, std::string folder, std::string path);

  const UniqueFd fd_;
  const std::string folder_;
  const std::string path_;
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_NOTIFY_SOCKET_H_
