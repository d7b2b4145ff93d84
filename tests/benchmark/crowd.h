// Sessions that do nothing, many from one process.
#ifndef TESTS_BENCHMARK_CROWD_H_
#define TESTS_BENCHMARK_CROWD_H_

#include <string>
#include <vector>

namespace tenure::testing {

// `words` are SOCKET COUNT: opens that many sessions, each on a connection of its own, says "open"
// and keeps them until it is killed. The exit code: 1 when one is refused, 2 for wrong words.
int KeepCrowd(const std::vector<std::string>& words);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_CROWD_H_
