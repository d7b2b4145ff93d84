// Functions with which a test makes calls of the emulated driver fail or wait.
#ifndef COMMON_CUDA_EMULATED_CONTROL_H_
#define COMMON_CUDA_EMULATED_CONTROL_H_

#include <dlfcn.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/cuda/driver.h"

// The functions are exported by libtenure_emulated_cuda.so only. Control finds them in the library
// that the process has loaded, so a program that uses it also runs on a real driver, where Open
// fails. The environment variable TENURE_EMULATED_FAULTS sets the same faults from outside. It is a
// list, separated by commas:
//   cuMemAlloc_v2:3=2         the third call answers 2
//   cuMemFree_v2:1+=700       the first call and all later ones answer 700
//   cuMemAlloc_v2:delay=5000  each call takes 5000 microseconds longer
// Symbols are exported names. A call that fails has no other effect.
extern "C" {

// Each answers 0, or 1 when no entry point has that name. `nth` counts from the next call, which is
// 1. `result` is a CUresult, for an nvml symbol an nvmlReturn_t.
int tenureEmulatedFail(const char* symbol, uint64_t nth, int and_later, int result);
int tenureEmulatedDelay(const char* symbol, uint64_t microseconds);
// Calls of a symbol since the library was loaded, failed ones included.
int tenureEmulatedCalls(const char* symbol, uint64_t* calls);
void tenureEmulatedClear();
// Puts a process that does not exist on the list of compute processes, or removes it. Only this
// process sees that.
void tenureEmulatedPretend(int pid, int listed);

}  // extern "C"

namespace tenure::cuda::emulated {

// The functions above, found at run time.
// Thread safety: thread-safe.
// Errors: a symbol that is no entry point is a bug of the test, and aborts it.
class Control {
 public:
  // FAILED_PRECONDITION: `driver` is not the emulated one.
  static absl::StatusOr<Control> Open(const Driver& driver) {
    void* library = dlopen(driver.path().c_str(), RTLD_NOW | RTLD_NOLOAD);
    Control control;
    if (library == nullptr || !control.Fill(library)) {
      return absl::FailedPreconditionError(
          absl::StrCat("the driver '", driver.path(), "' takes no faults: it is a real one"));
    }
    return control;
  }

  void Fail(const char* symbol, uint64_t nth, CUresult result) const {
    TENURE_CHECK(fail_(symbol, nth, 0, static_cast<int>(result)) == 0);
  }
  void FailFrom(const char* symbol, uint64_t nth, CUresult result) const {
    TENURE_CHECK(fail_(symbol, nth, 1, static_cast<int>(result)) == 0);
  }
  void Delay(const char* symbol, uint64_t microseconds) const {
    TENURE_CHECK(delay_(symbol, microseconds) == 0);
  }
  uint64_t Calls(const char* symbol) const {
    uint64_t calls = 0;
    TENURE_CHECK(calls_(symbol, &calls) == 0);
    return calls;
  }
  // Removes all faults and delays. The counts of calls stay.
  void Clear() const { clear_(); }
  // Puts a process that does not exist on the list of compute processes, or removes it.
  void Pretend(pid_t pid, bool listed) const { pretend_(pid, listed ? 1 : 0); }

 private:
  Control() = default;

  bool Fill(void* library) {
    fail_ = reinterpret_cast<decltype(fail_)>(dlsym(library, "tenureEmulatedFail"));
    delay_ = reinterpret_cast<decltype(delay_)>(dlsym(library, "tenureEmulatedDelay"));
    calls_ = reinterpret_cast<decltype(calls_)>(dlsym(library, "tenureEmulatedCalls"));
    clear_ = reinterpret_cast<decltype(clear_)>(dlsym(library, "tenureEmulatedClear"));
    pretend_ = reinterpret_cast<decltype(pretend_)>(dlsym(library, "tenureEmulatedPretend"));
    return fail_ != nullptr && delay_ != nullptr && calls_ != nullptr && clear_ != nullptr &&
           pretend_ != nullptr;
  }

  decltype(&tenureEmulatedFail) fail_ = nullptr;
  decltype(&tenureEmulatedDelay) delay_ = nullptr;
  decltype(&tenureEmulatedCalls) calls_ = nullptr;
  decltype(&tenureEmulatedClear) clear_ = nullptr;
  decltype(&tenureEmulatedPretend) pretend_ = nullptr;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_CONTROL_H_
