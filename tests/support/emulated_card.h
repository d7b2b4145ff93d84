// Emulated devices in a folder of their own, for one test program.
#ifndef TESTS_SUPPORT_EMULATED_CARD_H_
#define TESTS_SUPPORT_EMULATED_CARD_H_

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include <stdlib.h>

#include "common/check.h"

namespace tenure::testing {

// Emulated devices that only this process and the processes that it starts use.
//
// REQUIRES: made before the driver is first initialised, and kept until the program ends. The
// driver reads the folder from the environment once per process. Owns: the folder, which the
// destructor removes.
class EmulatedCard {
 public:
  explicit EmulatedCard(const std::string& memory = "8GiB", int devices = 1) {
    const bool has_shm = access("/dev/shm", W_OK) == 0;
    folder_ = has_shm ? "/dev/shm/tenure-test-XXXXXX" : "/tmp/tenure-test-XXXXXX";
    TENURE_CHECK(mkdtemp(folder_.data()) != nullptr);
    // Some tests start processes of other users, which must reach the folder.
    TENURE_CHECK(chmod(folder_.c_str(), 0777) == 0);
    TENURE_CHECK(setenv("TENURE_EMULATED_DIR", folder_.c_str(), 1) == 0);
    TENURE_CHECK(setenv("TENURE_EMULATED_MEMORY", memory.c_str(), 1) == 0);
    TENURE_CHECK(setenv("TENURE_EMULATED_DEVICES", std::to_string(devices).c_str(), 1) == 0);
  }
  ~EmulatedCard() {
    // A child that a death test forked must not remove its parent's devices.
    if (getpid() != owner_) return;
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  EmulatedCard(const EmulatedCard&) = delete;
  EmulatedCard& operator=(const EmulatedCard&) = delete;

  const std::string& folder() const { return folder_; }

 private:
  const pid_t owner_ = getpid();
  std::string folder_;
};

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_EMULATED_CARD_H_
