#ifndef TESTS_DRIVER_CONTRACT_CONTRACT_H_
#define TESTS_DRIVER_CONTRACT_CONTRACT_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "gtest/gtest.h"

#include "common/bytes.h"
#include "common/cuda/driver.h"
#include "tests/driver_contract/peer.h"

namespace tenure::testing {

// What tenure relies on in a CUDA driver, as it was seen on NVIDIA's. Each claim must hold on that
// one and on the emulated one; TENURE_DRIVER says which one these tests run on ("cuda", "emulated"
// or a path; default: emulated). The program watches device 0 with a context of its own, and takes
// it that nobody else allocates there meanwhile.
class DriverContract : public ::testing::Test {
 public:
  // For all tests of the program.
  static void Open();
  static void Close();

 protected:
  static const cuda::Driver& driver();
  static const std::string& path();
  static Bytes FreeMemory();
  static Bytes TotalMemory();
  // The driver's list of compute processes.
  static bool Lists(pid_t pid);

  // Device memory comes back a while after a process is gone; so do places on the list. Waits up to
  // 20 s.
  static bool Eventually(const std::function<bool()>& claim);
  // Whether the device's free memory comes to what is expected: to the byte on the emulated driver.
  // The real one keeps 64 KiB for itself from the moment when one more process has come until the
  // ones that were there before are gone too.
  static ::testing::AssertionResult EventuallyFree(Bytes expected);
};

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_CONTRACT_H_
