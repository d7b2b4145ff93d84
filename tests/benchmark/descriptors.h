// Raises the limit of open files of this process.
#ifndef TESTS_BENCHMARK_DESCRIPTORS_H_
#define TESTS_BENCHMARK_DESCRIPTORS_H_

#include <sys/resource.h>

#include "common/check.h"

namespace tenure::testing {

// Raises the soft limit to the hard one, so that the process can hold many connections.
inline void RaiseDescriptorLimit() {
  rlimit limit = {};
  TENURE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  TENURE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_DESCRIPTORS_H_
