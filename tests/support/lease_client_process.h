// A client in a process of its own, which a test may kill.
#ifndef TESTS_SUPPORT_LEASE_CLIENT_PROCESS_H_
#define TESTS_SUPPORT_LEASE_CLIENT_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace tenure::testing {

// Runs bin/lease_client, or another program with the same command line. The destructor kills it if
// it still runs.
//
// Thread safety: thread-compatible.
class LeaseClientProcess {
 public:
  // `words`: the command line after the program's name.
  explicit LeaseClientProcess(const std::vector<std::string>& words,
                              const std::string& program = "lease_client");
  LeaseClientProcess(LeaseClientProcess&& other) noexcept;
  // Swaps: the process of this object is killed at the latest when `other` is destroyed.
  LeaseClientProcess& operator=(LeaseClientProcess&& other) noexcept;
  ~LeaseClientProcess();

  pid_t pid() const { return pid_; }
  // The next line of its output; empty when it ended without one. Waits at most 20 s.
  std::string ReadLine();
  // Sends SIGKILL and waits for the end. Returns the exit code: 128 + 9 if the signal ended it.
  int Kill();
  // The exit code if the process has ended by itself; it stays a zombie. nullopt while it runs.
  std::optional<int> EndedWith() const;
  // Waits until it ends by itself; returns the exit code.
  int WaitForEnd();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_LEASE_CLIENT_PROCESS_H_
