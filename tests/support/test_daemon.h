// A tenured process for one test or benchmark.
#ifndef TESTS_SUPPORT_TEST_DAEMON_H_
#define TESTS_SUPPORT_TEST_DAEMON_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <grpcpp/channel.h>

#include "tenure/v1/allocator.grpc.pb.h"
#include "tenure/v1/stats.grpc.pb.h"

namespace tenure::testing {

// The folder of the running executable: the programs lie side by side.
std::string ProgramFolder();

// Starts a program and returns its pid. It inherits stdout and stderr.
pid_t StartProgram(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment = {});

// Waits for the end of a child, at most 30 s. Returns its exit code, or 128 + the signal that ended
// it.
int WaitForExit(pid_t pid);

// Calls `condition` until it is true, at most 20 s; returns whether it became true.
template <typename Condition>
bool Eventually(Condition condition);

// Runs bin/tenured with a socket in a folder of its own, on the driver that $TENURE_DRIVER names,
// by default the emulated one. It serves when the constructor returns. The destructor stops it.
//
// Thread safety: thread-compatible.
class TestDaemon {
 public:
  struct Options {
    std::vector<std::string> flags = {};
    std::vector<std::string> environment = {};
    // A program and its arguments that run the daemon: its command line is appended to them. Empty
    // to run the daemon directly.
    std::vector<std::string> wrapper = {};
    std::string memory = "1GiB";
  };

  TestDaemon() : TestDaemon(Options{}) {}
  explicit TestDaemon(Options options);
  ~TestDaemon();
  TestDaemon(const TestDaemon&) = delete;
  TestDaemon& operator=(const TestDaemon&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& folder() const { return folder_; }
  std::string socket() const { return folder_ + "/grpc.sock"; }
  // The whole command line that started it.
  const std::vector<std::string>& command() const { return command_; }

  // False when it has ended by itself.
  bool Running() { return !EndedWith(); }
  // The exit code of a daemon that has ended by itself; nullopt while it runs.
  std::optional<int> EndedWith();
  // Sends SIGTERM and returns the exit code. REQUIRES: the daemon runs.
  int Stop();
  // Waits until it ends by itself; returns the exit code.
  int WaitForEnd();

  // A connection of its own to the daemon.
  std::shared_ptr<grpc::Channel> NewChannel() const;
  // Gives allocator() and stats() a new connection: gRPC waits before it repeats a lost one.
  void Reconnect();
  v1::Allocator::Stub& allocator() { return *allocator_; }
  v1::Stats::Stub& stats() { return *stats_; }

  // Aborts the test when the daemon does not answer.
  v1::GetStatsResponse GetStats();
  // nullopt when the daemon does not answer.
  std::optional<v1::GetStatsResponse> TryGetStats();
  v1::ListSessionsResponse ListSessions();
  std::vector<v1::Allocation> ListAllocations();

 private:
  std::string folder_;
  std::vector<std::string> command_;
  pid_t pid_ = -1;
  std::optional<int> ended_with_;
  std::unique_ptr<v1::Allocator::Stub> allocator_;
  std::unique_ptr<v1::Stats::Stub> stats_;
};

// Whether this test runs on NVIDIA's driver.
bool OnRealDevice();

// Calls `step` until it returns true, at most 20 s; returns whether it did. For Eventually.
bool WaitUntilOrDeadline(bool (*step)(void*), void* state);

template <typename Condition>
bool Eventually(Condition condition) {
  return WaitUntilOrDeadline(
      [](void* state) { return static_cast<bool>((*static_cast<Condition*>(state))()); },
      &condition);
}

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_TEST_DAEMON_H_
