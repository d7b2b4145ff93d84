#include "common/cuda/emulated/life_locks.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include "common/check.h"
#include "common/cuda/emulated/shared_file.h"

namespace tenure::cuda::emulated {
namespace {

struct flock ByteOf(size_t process, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(process);
  lock.l_len = 1;
  return lock;
}

}  // namespace

bool LifeLocks::Take(size_t process) {
  // A descriptor of its own: a lock belongs to the open file, and the probe must hold none.
  UniqueFd file = OpenShared(folder_, "nvidia-processes");
  struct flock life = ByteOf(process, F_WRLCK);
  if (!file || fcntl(file.get(), F_OFD_SETLK, &life) != 0) return false;
  own_ = std::move(file);
  return true;
}

void LifeLocks::End(size_t process) {
  // Unlocked before it is closed: a forked child has a copy of the descriptor, and closing alone
  // would leave the lock with the child.
  struct flock life = ByteOf(process, F_UNLCK);
  fcntl(own_.get(), F_OFD_SETLK, &life);
  own_.Reset();
}

bool LifeLocks::IsAlive(size_t process) const {
  // Asks whether a lock could be taken, and takes none.
  struct flock life = ByteOf(process, F_WRLCK);
  TENURE_CHECK(fcntl(probe_.get(), F_OFD_GETLK, &life) == 0);
  return life.l_type != F_UNLCK;
}

}  // namespace tenure::cuda::emulated
