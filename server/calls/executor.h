// A few threads for the calls that must wait for the driver.
#ifndef SERVER_CALLS_EXECUTOR_H_
#define SERVER_CALLS_EXECUTOR_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace tenure::server {

// Runs tasks in the order in which they came, on its own threads, so that gRPC's few threads never
// wait for the driver: a 64 GiB allocation takes 250 ms. The queue needs no limit of its own: each
// task is a call in progress, and connections limit how many of those there are.
//
// Owns: the threads.
// Thread safety: thread-safe. Run returns at once; the task runs on one of the threads, and several
//     tasks run at the same time.
class Executor {
 public:
  explicit Executor(int threads);
  // Runs the tasks that are queued, then ends the threads.
  ~Executor();

  void Run(absl::AnyInvocable<void()> task);

 private:
  void RunTasks();
  bool HasTaskOrCloses() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return closing_ || !tasks_.empty();
  }

  // Taken on gRPC's threads; no driver call is made while it is held.
  absl::Mutex mu_;
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_EXECUTOR_H_
