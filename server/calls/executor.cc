#include "server/calls/executor.h"

#include <utility>

#include "common/cuda/no_driver_calls.h"

namespace tenure::server {

Executor::Executor(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { RunTasks(); });
}

Executor::~Executor() {
  {
    cuda::NoDriverCallsLock lock(&mu_);
    closing_ = true;
  }
  // Without the lock: the threads take it to finish the queue.
  for (std::thread& thread : threads_) thread.join();
}

void Executor::Run(absl::AnyInvocable<void()> task) {
  cuda::NoDriverCallsLock lock(&mu_);
  tasks_.push_back(std::move(task));
}

void Executor::RunTasks() {
  while (true) {
    absl::AnyInvocable<void()> task;
    {
      cuda::NoDriverCallsLock lock(&mu_);
      mu_.Await(absl::Condition(this, &Executor::HasTaskOrCloses));
      // Only an empty queue ends the thread: behind each task a client waits for its answer.
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    // Without the lock, because the task may wait for the driver.
    task();
  }
}

}  // namespace tenure::server
