// How many connections a process can hold.
#ifndef TESTS_BENCHMARK_DESCRIPTORS_H_
#define TESTS_BENCHMARK_DESCRIPTORS_H_

#include <sys/resource.h>

#include "common/check.h"

namespace tenure::testing {

// This process may open as many files as it can be allowed.
inline void TakeAllDescriptors() {
  rlimit limit = {};
  TENURE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  TENURE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_DESCRIPTORS_H_
