#include "server/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>

#include "common/check.h"

namespace tenure::server {
namespace {

// The connection table has an entry for each possible descriptor: 8 MiB at this limit.
constexpr rlim_t kMaxDescriptors = 1 << 20;

int RaiseDescriptorLimit() {
  rlimit limit = {};
  TENURE_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlim_t wanted = std::min(limit.rlim_max, kMaxDescriptors);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    TENURE_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  }
  // The soft limit may have been above the maximum, even unlimited.
  return static_cast<int>(std::min(limit.rlim_cur, kMaxDescriptors));
}

}  // namespace

DescriptorShares ShareDescriptors(const FdStore* store) {
  const int all = RaiseDescriptorLimit();
  uint64_t regions = static_cast<uint64_t>(all) / 4;
  // One is the claim of the device.
  if (store != nullptr) regions = std::min<uint64_t>(regions, store->max() - 1);
  return DescriptorShares{all, all - static_cast<int>(regions), regions};
}

}  // namespace tenure::server
