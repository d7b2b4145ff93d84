// The first steps of every entry point of the emulated driver: faults, checks and the lock.
#ifndef COMMON_CUDA_EMULATED_PROCESS_H_
#define COMMON_CUDA_EMULATED_PROCESS_H_

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include <cuda.h>

#include "common/cuda/emulated/devices.h"
#include "common/cuda/emulated/entry.h"
#include "common/cuda/emulated/faults.h"

namespace tenure::cuda::emulated {

// The state of the driver in this process.
//
// It is never destroyed, because threads that exit() leaves running may still call the driver.
// Thread safety: thread-safe. Under the lock a call waits only for other processes' steps on a
// card, which take microseconds. Copies run without it.
class Process {
 public:
  static Process& Instance();

  Faults& faults() { return faults_; }

  // Whether this is a child that was forked after its parent initialised the driver. There, as on
  // the real driver, no call works. Also the lock may have been held by another thread at the fork,
  // and would never be released.
  bool IsForkedChild() const {
    const pid_t user = user_;
    return user != 0 && user != getpid();
  }
  bool IsShutDown() const { return shut_down_; }

  // Makes this process the driver's user. Its forked children are not.
  void Claim() {
    pid_t none = 0;
    user_.compare_exchange_strong(none, getpid());
  }

  // Runs body(Devices&) under the lock.
  template <typename Body>
  auto With(const Body& body) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    return body(devices_);
  }

  void ShutDown();

 private:
  Process() = default;

  Faults faults_;
  std::atomic<pid_t> user_ = 0;  // 0: none yet
  std::atomic<bool> shut_down_ = false;
  absl::Mutex mutex_;
  Devices devices_ ABSL_GUARDED_BY(mutex_);
};

// The contexts that a thread has pushed. It has no destructor, because a program's last destructors
// call the driver after thread-local objects are destroyed.
struct ContextStack {
  static constexpr size_t kDepth = 64;

  CUcontext top() const { return depth > 0 ? contexts[depth - 1] : nullptr; }

  std::array<CUcontext, kDepth> contexts;
  size_t depth;
};
ContextStack& ThreadContexts();

// Runs an entry point that works always, also in a forked child: body().
template <typename Body>
CUresult RunAlways(Entry entry, const Body& body) {
  Process& process = Process::Instance();
  if (process.IsForkedChild()) return body();
  const std::optional<int> fault = process.faults().OnCall(entry);
  return fault ? static_cast<CUresult>(*fault) : body();
}

// Runs an entry point that needs no cuInit: body(Devices&).
template <typename Body>
CUresult RunAnytime(Entry entry, const Body& body) {
  Process& process = Process::Instance();
  if (process.IsForkedChild()) return CUDA_ERROR_NOT_INITIALIZED;
  if (process.IsShutDown()) return CUDA_ERROR_DEINITIALIZED;
  const std::optional<int> fault = process.faults().OnCall(entry);
  return fault ? static_cast<CUresult>(*fault) : process.With(body);
}

// Runs an entry point that needs cuInit: body(Devices&).
template <typename Body>
CUresult Run(Entry entry, const Body& body) {
  return RunAnytime(entry, [&](Devices& devices) {
    return devices.initialised() ? body(devices) : CUDA_ERROR_NOT_INITIALIZED;
  });
}

// Runs an entry point that uses the thread's current context: body(Devices&, CUctx_st&).
template <typename Body>
CUresult RunInContext(Entry entry, const Body& body) {
  return Run(entry, [&](Devices& devices) {
    CUcontext context = ThreadContexts().top();
    if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
    return devices.IsActive(context) ? body(devices, *context) : CUDA_ERROR_CONTEXT_IS_DESTROYED;
  });
}

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_PROCESS_H_
