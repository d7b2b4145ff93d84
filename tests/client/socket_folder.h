// A folder for sockets, and a socket on which no process listens.
#ifndef TESTS_CLIENT_SOCKET_FOLDER_H_
#define TESTS_CLIENT_SOCKET_FOLDER_H_

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "common/check.h"

namespace tenure::testing {

// A new folder, which is removed with this.
//
// Thread safety: thread-compatible.
class SocketFolder {
 public:
  SocketFolder() { TENURE_CHECK(mkdtemp(folder_.data()) != nullptr); }
  ~SocketFolder() { std::filesystem::remove_all(folder_); }
  SocketFolder(const SocketFolder&) = delete;
  SocketFolder& operator=(const SocketFolder&) = delete;

 protected:
  // Binds a socket and closes it, as a daemon that was killed leaves it.
  std::string StaleSocket() const {
    const std::string path = folder_ + "/stale";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    TENURE_CHECK(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    close(fd);
    return path;
  }

  std::string folder_ = "/tmp/tenure-test-XXXXXX";
};

}  // namespace tenure::testing

#endif  // TESTS_CLIENT_SOCKET_FOLDER_H_
