#ifndef TESTS_SUPPORT_EMULATED_CARD_H_
#define TESTS_SUPPORT_EMULATED_CARD_H_

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include <stdlib.h>

#include "common/check.h"

namespace tenure::testing {

// Emulated devices of a test's own: this process and the processes it starts use them, nobody else.
//
// The driver reads where they are when it is first initialised, and once per process; so make one
// of these before that, and keep it as long as the program runs.
// Owns: the folder, which goes with it.
class EmulatedCard {
 public:
  explicit EmulatedCard(const std::string& memory = "8GiB", int devices = 1) {
    const bool has_shm = access("/dev/shm", W_OK) == 0;
    folder_ = has_shm ? "/dev/shm/tenure-test-XXXXXX" : "/tmp/tenure-test-XXXXXX";
    TENURE_CHECK(mkdtemp(folder_.data()) != nullptr);
    // Processes of other users take part in some tests.
    TENURE_CHECK(chmod(folder_.c_str(), 0777) == 0);
    TENURE_CHECK(setenv("TENURE_EMULATED_DIR", folder_.c_str(), 1) == 0);
    TENURE_CHECK(setenv("TENURE_EMULATED_MEMORY", memory.c_str(), 1) == 0);
    TENURE_CHECK(setenv("TENURE_EMULATED_DEVICES", std::to_string(devices).c_str(), 1) == 0);
  }
  ~EmulatedCard() {
    // A child that a death test forked must not take its parent's devices away.
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
