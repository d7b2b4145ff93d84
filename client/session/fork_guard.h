#ifndef CLIENT_SESSION_FORK_GUARD_H_
#define CLIENT_SESSION_FORK_GUARD_H_

#include <cstdint>

#include "absl/status/status.h"

namespace tenure {

// Knows whether this process is the one that made it, or a fork of that one.
//
// gRPC, CUDA and every lock that another thread held are unusable in a forked child, so a child
// must not even run the destructors of what it inherited.
//
// Thread safety: immutable after construction. One atomic load per question, which is why it is not
// getpid().
// Source: pthread_atfork(3). vfork and posix_spawn run no handlers, and their children touch
// nothing before exec.
class ForkGuard {
 public:
  ForkGuard();

  bool InChild() const;
  // FAILED_PRECONDITION in a forked child, with what to do instead.
  absl::Status Check() const;

 private:
  const uint64_t forks_;
};

// From now on a child that this process forks lets go of the driver's device files as its first
// deed (ReleaseDeviceFiles): it could not use the device anyway, and would keep this
// process's memory in quarantine after its death. For a process that holds leases. Idempotent,
// thread-safe.
void LetGoOfDeviceFilesInChildren();

}  // namespace tenure

#endif  // CLIENT_SESSION_FORK_GUARD_H_
