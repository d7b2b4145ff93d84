// The socket on which the keeper receives the sd_notify(3) messages of the daemon.
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

// One message and its sender. The kernel names the sender; the text of the message is not trusted.
struct NotifyMessage {
  pid_t pid = 0;
  uid_t uid = 0;
  std::vector<std::string> lines;
  std::vector<UniqueFd> fds;

  bool Has(absl::string_view line) const;
  // The text after `key` and '=' on the first line that begins with both.
  std::optional<std::string> Value(absl::string_view key) const;
};

// A datagram socket in a folder that only this user may enter, so that no other user can fill it.
//
// Owns: the socket and its folder. The destructor removes both; a killed process leaves them
// behind.
// Thread safety: thread-compatible.
class NotifySocket {
 public:
  // Makes the folder in $XDG_RUNTIME_DIR, else $TMPDIR, else /tmp.
  static absl::StatusOr<std::unique_ptr<NotifySocket>> Open();
  ~NotifySocket();
  NotifySocket(const NotifySocket&) = delete;
  NotifySocket& operator=(const NotifySocket&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

  // The next message; nullopt when there is none. A message that is incomplete or not of this
  // protocol is returned empty, with pid 0.
  std::optional<NotifyMessage> Receive();

 private:
  NotifySocket(UniqueFd fd, std::string folder, std::string path);

  const UniqueFd fd_;
  const std::string folder_;
  const std::string path_;
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_NOTIFY_SOCKET_H_
