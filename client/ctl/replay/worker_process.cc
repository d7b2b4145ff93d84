#include "client/ctl/replay/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spawn.h>

namespace tenure::ctl {
namespace {

// Spawns this program with stdout on the pipe. `inherited_fd` keeps its number: in posix_spawn, a
// dup2 of a descriptor onto itself clears its close-on-exec flag.
int SpawnWith(int stdout_fd, int inherited_fd, char** argv, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) return error;
  error = posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
  if (error == 0) {
    error = posix_spawn_file_actions_adddup2(&actions, inherited_fd, inherited_fd);
  }
  if (error == 0) error = posix_spawn(pid, "/proc/self/exe", &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

absl::StatusOr<WorkerProcess> WorkerProcess::Spawn(const std::vector<std::string>& arguments,
                                                   int inherited_fd) {
  std::array<int, 2> ends = {-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  std::vector<std::string> words = {"tenurectl"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int error = SpawnWith(ends[1], inherited_fd, argv.data(), &pid);
  // The parent closes its copy of the write end. With it open, the pipe would not report the
  // child's end.
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    return absl::ErrnoToStatus(error, "start a worker");
  }
  return WorkerProcess(pid, ends[0]);
}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      fd_(std::exchange(other.fd_, -1)),
      partial_(std::move(other.partial_)) {}

WorkerProcess::~WorkerProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (fd_ >= 0) close(fd_);
}

std::vector<std::string> WorkerProcess::ReadLines() {
  std::vector<std::string> lines;
  std::array<char, 65536> chunk;
  const ssize_t got = read(fd_, chunk.data(), chunk.size());
  if (got < 0 && errno == EINTR) return lines;
  if (got <= 0) {
    close(std::exchange(fd_, -1));
    return lines;
  }
  // A read may end in the middle of a line; the rest stays in partial_ until its newline arrives.
  partial_.append(chunk.data(), static_cast<size_t>(got));
  size_t begin = 0;
  for (size_t end = 0; (end = partial_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(partial_.substr(begin, end - begin));
  }
  partial_.erase(0, begin);
  return lines;
}

std::string WorkerProcess::AwaitEnd() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  // Cleared, because the pid may now be another process's, which the destructor must not kill.
  pid_ = -1;
  if (WIFSIGNALED(status)) {
    return absl::StrCat("killed by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)),
                        ")");
  }
  const int code = WEXITSTATUS(status);
  return code <= 1 ? "" : absl::StrCat("ended with exit code ", code);
}

}  // namespace tenure::ctl
