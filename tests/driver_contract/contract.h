// The fixture of the driver contract.
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

// The behaviour of a CUDA driver on which tenure relies, as it was seen on NVIDIA's. Each claim
// must hold on that driver and on the emulated one. TENURE_DRIVER names the driver under test
// ("cuda", "emulated" or a path; default: emulated). The program watches device 0 with a context of
// its own. REQUIRES: no other program allocates there meanwhile.
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

  // Waits up to 20 s for the claim. The driver frees the memory of a process, and removes it from
  // the list, some time after its end.
  static bool Eventually(const std::function<bool()>& claim);
  // Whether the device's free memory becomes the expected one, exactly on the emulated driver. The
  // real one takes 64 KiB when one more process comes, and keeps them until all earlier processes
  // have ended.
  static ::testing::AssertionResult EventuallyFree(Bytes expected);
};

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_CONTRACT_H_
