#include "common/cuda/emulated/process.h"

namespace tenure::cuda::emulated {

Process& Process::Instance() {
  static Process* const process = new Process;
  return *process;
}

void Process::ShutDown() {
  // A forked child must not free the memory of its parent.
  if (user_ != getpid()) return;
  shut_down_ = true;
  With([](Devices& devices) { devices.ShutDown(); });
}

ContextStack& ThreadContexts() {
  static thread_local ContextStack contexts = {};
  return contexts;
}

namespace {

// Runs after the program's own exit handlers and destructors, which may still use the driver.
[[gnu::destructor]] void ShutDownAtExit() { Process::Instance().ShutDown(); }

}  // namespace
}  // namespace tenure::cuda::emulated
