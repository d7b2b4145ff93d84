// A process that opens many sessions and keeps them idle.
#ifndef TESTS_BENCHMARK_CROWD_H_
#define TESTS_BENCHMARK_CROWD_H_

#include <string>
#include <vector>

namespace tenure::testing {

// `words` are SOCKET COUNT. Opens that many sessions, each on a connection of its own, prints
// "open" and keeps them until it is killed. Returns the exit code: 1 when one is refused, 2 for
// wrong words.
int KeepCrowd(const std::vector<std::string>& words);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_CROWD_H_
