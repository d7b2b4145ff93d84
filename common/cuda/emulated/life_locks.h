// Locks that show whether the processes with a context on an emulated device are alive.
#ifndef COMMON_CUDA_EMULATED_LIFE_LOCKS_H_
#define COMMON_CUDA_EMULATED_LIFE_LOCKS_H_

#include <cstddef>
#include <utility>

#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// A process locks the byte with its index in the file "nvidia-processes" as long as it has a
// context. The kernel drops the lock with the last copy of the descriptor, so a process that is
// killed at any instruction needs no clean-up to be seen as dead.
//
// The locks are open file description locks. They pass to forked children, as NVIDIA's device files
// do: a child that lives on without exec keeps its dead parent on the list of processes.
//
// Owns: this process's lock.
// Thread safety: thread-compatible.
// Source: fcntl(2), F_OFD_SETLK.
class LifeLocks {
 public:
  // `probe` is a descriptor of the file. It asks for the locks of others and never holds one.
  LifeLocks(int folder, UniqueFd probe) : folder_(folder), probe_(std::move(probe)) {}

  // Locks the byte of this process. Returns whether that worked; errno says why not.
  bool Take(size_t process);
  // Unlocks it, also in forked children.
  void End(size_t process);
  // Gives up this process's copy of the lock. Forked children keep it, as after SIGKILL.
  void Drop() { own_.Reset(); }

  // Whether this process holds a lock.
  bool held() const { return static_cast<bool>(own_); }
  // Whether any process holds the lock of this one.
  bool IsAlive(size_t process) const;

 private:
  const int folder_;
  const UniqueFd probe_;
  UniqueFd own_;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_LIFE_LOCKS_H_
