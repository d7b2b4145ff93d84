// The limits of the lease registry.
#ifndef SERVER_LEASES_REGISTRY_OPTIONS_H_
#define SERVER_LEASES_REGISTRY_OPTIONS_H_

#include <cstdint>
#include <functional>

#include "absl/time/time.h"

#include "common/bytes.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"

namespace tenure::server {

struct RegistryOptions {
  Epoch epoch = 1;
  absl::Duration lease_ttl = absl::Seconds(10);
  uint64_t max_sessions = 16384;
  uint64_t max_tenant_sessions = 16384;
  Bytes max_pool_block = MiB(1);
  // Called once, under the lock, when a session of a second tenant appears.
  std::function<void(Tenant)> on_second_tenant = [](Tenant) {};
};

}  // namespace tenure::server

#endif  // SERVER_LEASES_REGISTRY_OPTIONS_H_
