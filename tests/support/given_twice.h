// Whether a daemon gives anything to two.
#ifndef TESTS_SUPPORT_GIVEN_TWICE_H_
#define TESTS_SUPPORT_GIVEN_TWICE_H_

#include <string>
#include <vector>

#include "tenure/v1/stats.pb.h"

namespace tenure::testing {

// Says which byte of a region belongs to two allocations, or which region to two processes; empty
// when none does.
std::string GivenTwice(std::vector<v1::Allocation> allocations);

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_GIVEN_TWICE_H_
