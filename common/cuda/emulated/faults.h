// Faults and delays of the emulated driver's entry points.
#ifndef COMMON_CUDA_EMULATED_FAULTS_H_
#define COMMON_CUDA_EMULATED_FAULTS_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/cuda/emulated/entry.h"

namespace tenure::cuda::emulated {

// Which calls fail or wait, how often each entry point was called, and which processes that do not
// exist are on the process list.
// Thread safety: thread-safe.
class Faults {
 public:
  // Counts one call and waits for its delay. Returns the error with which the call must fail, if
  // any.
  std::optional<int> OnCall(Entry entry);

  // `nth` counts from the next call, which is 1.
  void Fail(Entry entry, uint64_t nth, bool and_later, int result);
  void Delay(Entry entry, absl::Duration delay);
  uint64_t Calls(Entry entry) const;
  // Puts a process that does not exist on the list of compute processes, or removes it.
  void Pretend(pid_t pid, bool listed);
  std::vector<pid_t> Pretended() const;
  void Clear();

  // Sets the faults of a list as control.h describes it. False: an item is malformed; the items
  // before it are set.
  bool Parse(absl::string_view list);

 private:
  struct Fault {
    uint64_t at = 0;  // in calls of the entry point since the library was loaded
    bool and_later = false;
    int result = 0;
  };
  struct State {
    uint64_t calls = 0;
    absl::Duration delay;
    std::vector<Fault> faults;
  };

  bool ParseItem(absl::string_view item);
  State& StateOf(Entry entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return states_[static_cast<size_t>(entry)];
  }

  mutable absl::Mutex mutex_;
  std::array<State, kEntryNames.size()> states_ ABSL_GUARDED_BY(mutex_);
  std::set<pid_t> pretended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_FAULTS_H_
