// Recognises a forked child.
#ifndef CLIENT_SESSION_FORK_GUARD_H_
#define CLIENT_SESSION_FORK_GUARD_H_

#include <cstdint>

#include "absl/status/status.h"

namespace tenure {

// Tells whether this process has created the guard, or is a forked child of the process that has.
//
// In a forked child gRPC, CUDA and every lock that another thread held are unusable. So a child
// must not even run the destructors of the session that it inherited.
//
// Thread safety: immutable after construction. InChild is one atomic load; getpid() would be a
// system call on every use of the session.
// Source: pthread_atfork(3). vfork and posix_spawn run no handlers, and their children touch
// nothing before exec.
class ForkGuard {
 public:
  ForkGuard();

  bool InChild() const;
  // FAILED_PRECONDITION in a forked child; the message says what to do instead.
  absl::Status Check() const;

 private:
  const uint64_t forks_;
};

// From now on every child that this process forks calls ReleaseDeviceFiles before fork() returns in
// it. A child cannot use the device, and with the files open it would keep the memory of this
// process in quarantine after this process has died. Idempotent, thread-safe.
void ReleaseDeviceFilesInChildren();

}  // namespace tenure

#endif  // CLIENT_SESSION_FORK_GUARD_H_
