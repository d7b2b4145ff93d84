// The daemon as a child process of the keeper: its start, its signals and its end.
#ifndef SERVER_KEEPER_DAEMON_PROCESS_H_
#define SERVER_KEEPER_DAEMON_PROCESS_H_

#include <sys/types.h>

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"
#include "server/keeper/kept_fds.h"

namespace tenure::server {

// How a process ended: with an exit code, or by a signal.
struct ProcessEnd {
  pid_t pid = 0;
  bool exited = false;
  int value = 0;  // the exit code, or the number of the signal
  // As a shell reports it.
  int code() const { return exited ? value : 128 + value; }
};

// At most one daemon at a time, started by fork and exec from the program of this process.
//
// The program is looked up by its path at each start, so that after an upgrade the next start runs
// the new program.
//
// Owns: the pidfd of the child. A child outlives its keeper.
// Thread safety: thread-compatible. The process must have no other threads, see Start.
// Source: fork(2), execve(2), pidfd_open(2), waitid(2).
class DaemonProcess {
 public:
  // `command` is the command line of the child; `mask` are the signals that it starts with blocked.
  DaemonProcess(std::vector<std::string> command, const sigset_t& mask);

  // Starts the child and passes it the kept descriptors and the address for its messages.
  // REQUIRES: none is running.
  // Errors: as fork(2) or pidfd_open(2). When exec fails, the child ends with kExitUnavailable.
  absl::Status Start(const KeptFds& kept, const std::string& notify_path);
  // Sends the child a signal. REQUIRES: one is running.
  void Signal(int signal) const;
  // If the child has ended, removes it and returns how it ended. Does not wait.
  std::optional<ProcessEnd> TakeEnd();

  bool running() const { return pid_ != 0; }
  // 0 while none is running.
  pid_t pid() const { return pid_; }
  // Readable when the child has ended; -1 while none is running.
  int pidfd() const { return pidfd_.get(); }

 private:
  [[noreturn]] void Exec(const KeptFds& kept, const std::string& notify_path);

  std::vector<std::string> command_;
  const sigset_t mask_;
  std::string program_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_DAEMON_PROCESS_H_
