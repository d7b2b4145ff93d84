// The emulated devices on which the tests of common/cuda run.
#ifndef TESTS_COMMON_CUDA_BENCH_H_
#define TESTS_COMMON_CUDA_BENCH_H_

#include <string>

#include "common/bytes.h"
#include "common/cuda/driver.h"

namespace tenure::testing {

// All tests of this program share two emulated devices of 1 GiB, which no other program uses.
inline constexpr Bytes kCapacity = GiB(1);
inline constexpr Bytes kContextCost = Bytes(kCapacity.value() / 256);

const std::string& DriverPath();
const cuda::Driver& TestDriver();
// The folder with the files of the emulated devices.
const std::string& CardFolder();
// The path of a library that was built beside this program.
std::string BesideProgram(const std::string& file);

}  // namespace tenure::testing

#endif  // TESTS_COMMON_CUDA_BENCH_H_
