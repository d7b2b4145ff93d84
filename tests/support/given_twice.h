// Finds memory that the daemon has granted twice.
#ifndef TESTS_SUPPORT_GIVEN_TWICE_H_
#define TESTS_SUPPORT_GIVEN_TWICE_H_

#include <string>
#include <vector>

#include "tenure/v1/stats.pb.h"

namespace tenure::testing {

// Describes the first byte that belongs to two allocations, or the first region that serves two
// processes. Empty when there is none.
std::string GivenTwice(std::vector<v1::Allocation> allocations);

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_GIVEN_TWICE_H_
