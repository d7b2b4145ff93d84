// A client in a process of its own, which a test may kill.
#ifndef TESTS_SUPPORT_LEASE_CLIENT_PROCESS_H_
#define TESTS_SUPPORT_LEASE_CLIENT_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace tenure::testing {

// Runs bin/lease_client, or another program that behaves so. Killed, at the latest, by the
// destructor.
//
// Thread safety: thread-compatible.
class LeaseClientProcess {
 public:
  // The words after the program's name.
  explicit LeaseClientProcess(const std::vector<std::string>& words,
                              const std::string& program = "lease_client");
  LeaseClientProcess(LeaseClientProcess&& other) noexcept;
  // The one that is assigned to is killed at the latest when `other` ends.
  LeaseClientProcess& operator=(LeaseClientProcess&& other) noexcept;
  ~LeaseClientProcess();

  pid_t pid() const { return pid_; }
  // Its next line of output; empty when it ended without one. Waits at most 20 s.
  std::string ReadLine();
  // SIGKILL, and waits for the end. The exit code, 128 + 9 when it was the kill that ended it.
  int Kill();
  // The exit code of one that has ended by itself, which it still waits to be asked for; nullopt
  // while it runs.
  std::optional<int> EndedWith() const;
  // Waits for an end of its own; the exit code.
  int WaitForEnd();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_LEASE_CLIENT_PROCESS_H_
