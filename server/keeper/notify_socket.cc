#include "server/keeper/notify_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/socket_path.h"

namespace tenure::server {
namespace {

// The longest text that systemd accepts, and the most descriptors that one message can carry
// (SCM_MAX_FD in the kernel).
constexpr size_t kMaxText = 4096;
constexpr size_t kMaxFds = 253;

std::string RuntimeFolder() {
  for (const char* variable : {"XDG_RUNTIME_DIR", "TMPDIR"}) {
    const char* folder = std::getenv(variable);
    if (folder != nullptr && *folder == '/') return folder;
  }
  return "/tmp";
}

// Adds one piece of control data, descriptors or the sender, to the message.
void AddControl(const cmsghdr& header, NotifyMessage& message) {
  const unsigned char* data = CMSG_DATA(&header);
  const size_t bytes = header.cmsg_len - CMSG_LEN(0);
  if (header.cmsg_level != SOL_SOCKET) return;
  if (header.cmsg_type == SCM_RIGHTS) {
    for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, data + at, sizeof fd);
      message.fds.emplace_back(fd);
    }
  } else if (header.cmsg_type == SCM_CREDENTIALS && bytes == sizeof(ucred)) {
    ucred credentials;
    std::memcpy(&credentials, data, sizeof credentials);
    message.pid = credentials.pid;
    message.uid = credentials.uid;
  }
}

}  // namespace

bool NotifyMessage::Has(absl::string_view line) const {
  for (const std::string& own : lines) {
    if (own == line) return true;
  }
  return false;
}

std::optional<std::string> NotifyMessage::Value(absl::string_view key) const {
  const std::string beginning = absl::StrCat(key, "=");
  for (const std::string& line : lines) {
    if (absl::StartsWith(line, beginning)) return line.substr(beginning.size());
  }
  return std::nullopt;
}

absl::StatusOr<std::unique_ptr<NotifySocket>> NotifySocket::Open() {
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot open a socket");
  const int on = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
    return absl::ErrnoToStatus(errno, "cannot ask a socket for the senders of its messages");
  }
  std::string folder = absl::StrCat(RuntimeFolder(), "/tenured-keeper-XXXXXX");
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = "/notify";
  if (folder.size() + name.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, name, " is longer than the path of a socket may be"));
  }
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make the folder ", folder));
  }
  // The object is made before bind(2), so that its destructor removes the folder if that fails.
  std::unique_ptr<NotifySocket> made(new NotifySocket(std::move(fd), folder, folder + name));
  std::memcpy(address.sun_path, made->path_.data(), made->path_.size());
  if (bind(made->fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", made->path_));
  }
  return made;
}

NotifySocket::NotifySocket(UniqueFd fd, std::string folder, std::string path)
    : fd_(std::move(fd)), folder_(std::move(folder)), path_(std::move(path)) {}

NotifySocket::~NotifySocket() {
  unlink(path_.c_str());
  rmdir(folder_.c_str());
}

std::optional<NotifyMessage> NotifySocket::Receive() {
  std::array<char, kMaxText> text;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int) * kMaxFds)>
      control;
  iovec vector = {text.data(), text.size()};
  msghdr header = {};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t length = -1;
  do {
    length = recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (length < 0 && errno == EINTR);
  if (length < 0) return std::nullopt;
  NotifyMessage message;
  // Before any check: from recvmsg(2) on this process owns the descriptors, and `message` closes
  // them if the text is refused below.
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    AddControl(*part, message);
  }
  // MSG_CTRUNC is also set when this process has no number left for a descriptor of the message.
  const bool whole = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  const absl::string_view words(text.data(), static_cast<size_t>(length));
  if (!whole || absl::StrContains(words, '\0')) return NotifyMessage{};
  message.lines = absl::StrSplit(words, '\n', absl::SkipEmpty());
  return message;
}

}  // namespace tenure::server
