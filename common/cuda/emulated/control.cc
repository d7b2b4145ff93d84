// Entry points that no other driver has: what control.h declares, and the mark that tells.
#include "common/cuda/emulated/control.h"

#include <optional>

#include "absl/time/time.h"

#include "common/cuda/emulated/process.h"

using tenure::cuda::emulated::Entry;
using tenure::cuda::emulated::Faults;
using tenure::cuda::emulated::FindEntry;
using tenure::cuda::emulated::Process;

namespace {

// Runs body(Faults&, Entry) for the entry point of that name: 0, or 1 when there is none.
template <typename Body>
int WithEntry(const char* symbol, const Body& body) {
  const std::optional<Entry> entry = FindEntry(symbol);
  if (!entry) return 1;
  body(Process::Instance().faults(), *entry);
  return 0;
}

}  // namespace

extern "C" {

// Its presence says which driver this is.
int tenureEmulatedDriver();
int tenureEmulatedDriver() { return 1; }

int tenureEmulatedFail(const char* symbol, uint64_t nth, int and_later, int result) {
  return WithEntry(symbol, [&](Faults& faults, Entry entry) {
    faults.Fail(entry, nth, and_later != 0, result);
  });
}

int tenureEmulatedDelay(const char* symbol, uint64_t microseconds) {
  return WithEntry(symbol, [&](Faults& faults, Entry entry) {
    faults.Delay(entry, absl::Microseconds(microseconds));
  });
}

int tenureEmulatedCalls(const char* symbol, uint64_t* calls) {
  return WithEntry(symbol, [&](Faults& faults, Entry entry) { *calls = faults.Calls(entry); });
}

void tenureEmulatedClear() { Process::Instance().faults().Clear(); }

void tenureEmulatedPretend(int pid, int listed) {
  Process::Instance().faults().Pretend(pid, listed != 0);
}

}  // extern "C"
