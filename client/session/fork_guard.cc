#include "client/session/fork_guard.h"

#include <pthread.h>

#include <atomic>

#include "client/session/device_files.h"
#include "common/check.h"

namespace tenure {
namespace {

// How many forks lie between the first process that loaded this code and this one. A flag would not
// do: a child may connect by itself and fork again.
std::atomic<uint64_t> forks_until_here = 0;
std::atomic<bool> children_release_device_files = false;

uint64_t ForksUntilHere() {
  // Registered once per process: a handler of pthread_atfork cannot be removed. A child inherits
  // the registration.
  static const bool registered = [] {
    // Runs between fork and the return to the child: nothing here may allocate or take a lock.
    const auto in_child = [] {
      forks_until_here.fetch_add(1, std::memory_order_relaxed);
      if (children_release_device_files.load(std::memory_order_relaxed)) ReleaseDeviceFiles();
    };
    TENURE_CHECK(pthread_atfork(nullptr, nullptr, in_child) == 0);
    return true;
  }();
  static_cast<void>(registered);
  return forks_until_here.load(std::memory_order_relaxed);
}

}  // namespace

ForkGuard::ForkGuard() : forks_(ForksUntilHere()) {}

bool ForkGuard::InChild() const {
  return forks_until_here.load(std::memory_order_relaxed) != forks_;
}

absl::Status ForkGuard::Check() const {
  if (!InChild()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "this process was forked after its parent connected to tenured, and can use neither the "
      "parent's session nor its memory; fork before connecting, or connect after exec");
}

void ReleaseDeviceFilesInChildren() {
  children_release_device_files.store(true, std::memory_order_relaxed);
}

}  // namespace tenure
