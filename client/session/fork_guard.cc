#include "client/session/fork_guard.h"

#include <pthread.h>

#include <atomic>

#include "client/session/device_files.h"
#include "common/check.h"

namespace tenure {
namespace {

// How many forks lie between the first process that loaded this code and this one.
std::atomic<uint64_t> forks_until_here = 0;
std::atomic<bool> children_let_go = false;

uint64_t ForksUntilHere() {
  static const bool registered = [] {
    const auto in_child = [] {
      forks_until_here.fetch_add(1, std::memory_order_relaxed);
      if (children_let_go.load(std::memory_order_relaxed)) ReleaseDeviceFiles();
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
      "parent's session nor its memory; fork before connecting, or connect anew after exec");
}

void LetGoOfDeviceFilesInChildren() { children_let_go.store(true, std::memory_order_relaxed); }

}  // namespace tenure
