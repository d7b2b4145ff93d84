// The control block of the fault injector: a file that the test and the daemon map.
#ifndef TESTS_FAULTS_FAULT_INJECTOR_H_
#define TESTS_FAULTS_FAULT_INJECTOR_H_

#include <array>
#include <atomic>
#include <cstdint>

namespace tenure::testing {

enum class FaultKind : int {
  kNone = 0,
  kAllocation,  // operator new, called by the program's own code
  kSystemCall,  // a call of the C library that makes a system call, likewise
  kDriverCall,  // an entry point of the emulated driver
};

struct FaultControl {
  std::atomic<FaultKind> kind;  // what is counted; written last
  std::atomic<int64_t> countdown;
  std::atomic<bool> and_later;
  std::atomic<uint64_t> injected;  // failures so far
  // For the driver: written before the command's number, which is answered when it is done.
  std::array<char, 64> symbol;
  std::atomic<int> result;
  std::atomic<uint64_t> command;
  std::atomic<uint64_t> answered;
};

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_FAULT_INJECTOR_H_
