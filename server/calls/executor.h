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

// Runs tasks in the order they came, on its own threads, so that gRPC's few threads never wait for
// the driver: a 64 GiB allocation takes 250 ms. The queue is bounded by what may be under way on
// all connections together.
//
// Owns: the threads.
// Thread safety: thread-safe.
class Executor {
 public:
  explicit Executor(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  // Runs what is queued, then ends the threads.
  ~Executor() {
    {
      absl::MutexLock lock(&mu_);
      closing_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Run(absl::AnyInvocable<void()> task) {
    absl::MutexLock lock(&mu_);
    tasks_.push_back(std::move(task));
  }

 private:
  void Work() {
    while (true) {
      absl::AnyInvocable<void()> task;
      {
        absl::MutexLock lock(&mu_);
        mu_.Await(absl::Condition(this, &Executor::HasWorkOrCloses));
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }
  bool HasWorkOrCloses() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return closing_ || !tasks_.empty();
  }

  absl::Mutex mu_;
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mu_);
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_EXECUTOR_H_
