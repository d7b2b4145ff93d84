#include "common/cuda/emulated/faults.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace tenure::cuda::emulated {

std::optional<int> Faults::OnCall(Entry entry) {
  absl::Duration delay;
  std::optional<int> result;
  {
    const absl::MutexLock lock(&mutex_);
    State& state = StateOf(entry);
    // A failed call counts as well, so that "the n-th call" means the same with and without a
    // fault.
    const uint64_t call = ++state.calls;
    delay = state.delay;
    const auto fault =
        std::find_if(state.faults.begin(), state.faults.end(), [call](const Fault& candidate) {
          return call == candidate.at || (candidate.and_later && call > candidate.at);
        });
    if (fault != state.faults.end()) result = fault->result;
  }
  // The delay runs without the lock, so that calls of other threads do not wait.
  if (delay > absl::ZeroDuration()) absl::SleepFor(delay);
  return result;
}

void Faults::Fail(Entry entry, uint64_t nth, bool and_later, int result) {
  const absl::MutexLock lock(&mutex_);
  State& state = StateOf(entry);
  // Stored as a number of calls since the load, so that OnCall compares without counting down.
  state.faults.push_back(Fault{state.calls + nth, and_later, result});
}

void Faults::Delay(Entry entry, absl::Duration delay) {
  const absl::MutexLock lock(&mutex_);
  StateOf(entry).delay = delay;
}

uint64_t Faults::Calls(Entry entry) const {
  const absl::MutexLock lock(&mutex_);
  return states_[static_cast<size_t>(entry)].calls;
}

void Faults::Pretend(pid_t pid, bool listed) {
  const absl::MutexLock lock(&mutex_);
  if (listed) {
    pretended_.insert(pid);
  } else {
    pretended_.erase(pid);
  }
}

std::vector<pid_t> Faults::Pretended() const {
  const absl::MutexLock lock(&mutex_);
  return {pretended_.begin(), pretended_.end()};
}

void Faults::Clear() {
  const absl::MutexLock lock(&mutex_);
  // The counts of calls stay, and so do the processes of Pretend: they are not faults.
  for (State& state : states_) {
    state.delay = absl::ZeroDuration();
    state.faults.clear();
  }
}

bool Faults::Parse(absl::string_view list) {
  for (const absl::string_view item : absl::StrSplit(list, ',', absl::SkipWhitespace())) {
    if (!ParseItem(absl::StripAsciiWhitespace(item))) return false;
  }
  return true;
}

bool Faults::ParseItem(absl::string_view item) {
  const std::pair<absl::string_view, absl::string_view> named =
      absl::StrSplit(item, absl::MaxSplits(':', 1));
  const std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(named.second, absl::MaxSplits('=', 1));
  const std::optional<Entry> entry = FindEntry(named.first);
  if (!entry) return false;
  if (halves.first == "delay") {
    uint64_t microseconds = 0;
    if (!absl::SimpleAtoi(halves.second, &microseconds)) return false;
    Delay(*entry, absl::Microseconds(microseconds));
    return true;
  }
  absl::string_view nth_text = halves.first;
  const bool and_later = absl::ConsumeSuffix(&nth_text, "+");
  uint64_t nth = 0;
  int result = 0;
  if (!absl::SimpleAtoi(nth_text, &nth) || nth == 0) return false;
  if (!absl::SimpleAtoi(halves.second, &result)) return false;
  Fail(*entry, nth, and_later, result);
  return true;
}

}  // namespace tenure::cuda::emulated
