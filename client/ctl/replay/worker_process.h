#ifndef CLIENT_CTL_REPLAY_WORKER_PROCESS_H_
#define CLIENT_CTL_REPLAY_WORKER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tenure::ctl {

// A child process whose stdout comes to us line by line. Spawned, never forked: a fork would carry
// over half of gRPC.
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
  // To poll; -1 once the child has closed its end.
  int fd() const { return fd_; }
  // The complete lines that have arrived since the last call. Does not wait beyond one read, which
  // `fd()` being readable makes immediate. Closes fd() at the end of the output.
  std::vector<std::string> ReadLines();
  // Waits for the end. Empty for exit code 0 or 1, which a worker explains itself; else how it
  // died, in words.
  std::string AwaitEnd();

 private:
  WorkerProcess(pid_t pid, int fd) : pid_(pid), fd_(fd) {}

  pid_t pid_;  // -1 once reaped
  int fd_;
  std::string partial_;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_WORKER_PROCESS_H_
