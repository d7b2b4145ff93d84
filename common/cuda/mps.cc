#include "common/cuda/mps.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace tenure::cuda {
namespace {

// Whether a process listens on this unix socket.
bool IsListening(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return true;  // not known; the caller refuses to run, which is safe
  const int result = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const bool refused = result != 0 && (errno == ECONNREFUSED || errno == ENOENT);
  close(probe);
  return !refused;
}

// Whether a process has this named pipe open for reading.
bool IsRead(const std::string& path) {
  const int pipe = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  // ENXIO: no process has the other end open. Any other error leaves it unknown.
  if (pipe < 0) return errno != ENXIO;
  close(pipe);
  return true;
}

}  // namespace

std::optional<std::string> FindMps() {
  const char* const named = std::getenv("CUDA_MPS_PIPE_DIRECTORY");
  const std::string folder = named == nullptr || *named == 0 ? "/tmp/nvidia-mps" : named;
  const std::string control = folder + "/control";
  struct stat info = {};
  if (stat(control.c_str(), &info) != 0) return std::nullopt;
  // A control daemon that was killed leaves its file behind.
  const bool lives = (S_ISSOCK(info.st_mode) && IsListening(control)) ||
                     (S_ISFIFO(info.st_mode) && IsRead(control));
  return lives ? std::optional<std::string>(folder) : std::nullopt;
}

}  // namespace tenure::cuda
