// The frame around every entry point: faults, the rules about when the driver may be used, the
// lock.
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

// What the driver is to this process.
//
// Never destroyed: threads that exit() leaves behind may still call in.
// Thread safety: thread-safe. Under the lock nobody waits but for other processes' steps on a card,
// which take microseconds; copies run outside.
class Process {
 public:
  static Process& Instance();

  Faults& faults() { return faults_; }

  // In a child that was forked after its parent initialised the driver nothing works, as on the
  // real one; and the lock may never come free there.
  bool IsForkedChild() const {
    const pid_t user = user_;
    return user != 0 && user != getpid();
  }
  bool IsShutDown() const { return shut_down_; }

  // Makes this process, and no child of it, the driver's user.
  void Claim() {
    pid_t nobody = 0;
    user_.compare_exchange_strong(nobody, getpid());
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
  std::atomic<pid_t> user_ = 0;  // 0: nobody yet
  std::atomic<bool> shut_down_ = false;
  absl::Mutex mutex_;
  Devices devices_ ABSL_GUARDED_BY(mutex_);
};

// The contexts that a thread has pushed. Trivially destructible: a program's last destructors call
// the driver when thread-local objects are gone.
struct ContextStack {
  static constexpr size_t kDepth = 64;

  CUcontext top() const { return depth > 0 ? contexts[depth - 1] : nullptr; }

  std::array<CUcontext, kDepth> contexts;
  size_t depth;
};
ContextStack& ThreadContexts();

// An entry point that works always, in a forked child too: body().
template <typename Body>
CUresult RunAlways(Entry entry, const Body& body) {
  Process& process = Process::Instance();
  if (process.IsForkedChild()) return body();
  const std::optional<int> fault = process.faults().Meet(entry);
  return fault ? static_cast<CUresult>(*fault) : body();
}

// An entry point that needs no cuInit: body(Devices&).
template <typename Body>
CUresult RunAnytime(Entry entry, const Body& body) {
  Process& process = Process::Instance();
  if (process.IsForkedChild()) return CUDA_ERROR_NOT_INITIALIZED;
  if (process.IsShutDown()) return CUDA_ERROR_DEINITIALIZED;
  const std::optional<int> fault = process.faults().Meet(entry);
  return fault ? static_cast<CUresult>(*fault) : process.With(body);
}

// One that needs cuInit.
template <typename Body>
CUresult Run(Entry entry, const Body& body) {
  return RunAnytime(entry, [&](Devices& devices) {
    return devices.initialised() ? body(devices) : CUDA_ERROR_NOT_INITIALIZED;
  });
}

// One that works on the thread's current context: body(Devices&, CUctx_st&).
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
