// How the process's file descriptors are shared out.
#ifndef SERVER_DESCRIPTOR_LIMIT_H_
#define SERVER_DESCRIPTOR_LIMIT_H_

#include <cstdint>

#include "server/keeper/fd_store.h"

namespace tenure::server {

// Every connection is an open file, and so is every region of kind VMM_FD.
struct DescriptorShares {
  int all = 0;  // the limit: every descriptor has a number below it
  int connections = 0;
  uint64_t vmm_regions = 0;
};

// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard limit, 2^20 at most, and divides
// it: a quarter to regions, and no more than the store keeps; the rest to connections. `store` is
// null when no supervisor keeps descriptors.
DescriptorShares ShareDescriptors(const FdStore* store);

}  // namespace tenure::server

#endif  // SERVER_DESCRIPTOR_LIMIT_H_
