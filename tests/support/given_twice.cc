#include "tests/support/given_twice.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tenure::testing {

std::string GivenTwice(std::vector<v1::Allocation> allocations) {
  std::sort(allocations.begin(), allocations.end(),
            [](const v1::Allocation& a, const v1::Allocation& b) {
              return std::make_pair(a.region_id(), a.offset_bytes()) <
                     std::make_pair(b.region_id(), b.offset_bytes());
            });
  for (size_t i = 1; i < allocations.size(); ++i) {
    const v1::Allocation& before = allocations[i - 1];
    const v1::Allocation& after = allocations[i];
    if (before.region_id() != after.region_id()) continue;
    if (before.pid() != after.pid()) {
      return absl::StrCat("region ", after.region_id(), " serves processes ", before.pid(), " and ",
                          after.pid());
    }
    if (before.offset_bytes() + before.size_bytes() > after.offset_bytes()) {
      return absl::StrCat("blocks ", before.allocation_id(), " and ", after.allocation_id(),
                          " overlap in region ", after.region_id());
    }
  }
  return "";
}

}  // namespace tenure::testing
