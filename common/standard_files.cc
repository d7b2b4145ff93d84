#include "common/standard_files.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace tenure {

void OpenStandardFiles() {
  // In ascending order: open(2) takes the lowest number that is free.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // Without O_CLOEXEC: programs that this one runs expect these three, too.
    if (open("/dev/null", O_RDWR) < 0) return;
  }
}

bool WriteToStderr(absl::string_view text) {
  while (!text.empty()) {
    // A pipe that is ready takes PIPE_BUF bytes at once.
    pollfd entry = {STDERR_FILENO, POLLOUT, 0};
    if (poll(&entry, 1, /*timeout=*/0) != 1 || (entry.revents & POLLOUT) == 0) return false;
    const ssize_t written =
        write(STDERR_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace tenure
