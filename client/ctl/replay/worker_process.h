// A child process of a replay whose stdout is read line by line.
#ifndef CLIENT_CTL_REPLAY_WORKER_PROCESS_H_
#define CLIENT_CTL_REPLAY_WORKER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tenure::ctl {

// Runs this program again as a child and reads its stdout. The child is spawned and not forked: a
// forked child would have gRPC's locks without gRPC's threads.
//
// Owns: the child, which the destructor kills and reaps if it has not ended, and the pipe.
// Thread safety: thread-compatible.
class WorkerProcess {
 public:
  // Runs this program again with `arguments`; the child inherits `inherited_fd` under the same
  // number.
  static absl::StatusOr<WorkerProcess> Spawn(const std::vector<std::string>& arguments,
                                             int inherited_fd);
  WorkerProcess(WorkerProcess&& other) noexcept;
  WorkerProcess& operator=(WorkerProcess&&) = delete;
  ~WorkerProcess();

  pid_t pid() const { return pid_; }
  // The read end of the child's stdout, to poll; -1 once the child has closed its end.
  int fd() const { return fd_; }
  // The complete lines that have arrived since the last call. Reads once, so it does not block when
  // fd() is readable. Closes fd() at the end of the output.
  std::vector<std::string> ReadLines();
  // Waits for the end. Returns an empty string for exit codes 0 and 1, which the worker explains on
  // its stdout; otherwise how it ended, such as "killed by signal 9 (Killed)".
  std::string AwaitEnd();

 private:
  WorkerProcess(pid_t pid, int fd) : pid_(pid), fd_(fd) {}

  pid_t pid_;  // -1 once reaped
  int fd_;
  std::string partial_;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_WORKER_PROCESS_H_
