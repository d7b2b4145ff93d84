// How many bytes each tenant holds, and the limit for one of them.
#ifndef SERVER_MEMORY_TENANT_ACCOUNTS_H_
#define SERVER_MEMORY_TENANT_ACCOUNTS_H_

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include "common/bytes.h"
#include "server/identity/peer.h"

namespace tenure::server {

// One account per tenant. An account has the bytes that the tenant's sessions hold, those that are
// being made for them, and those that wait in quarantine after a session's death.
//
// Invariants
//  1. Charge() never takes an account above the limit. ChargeRestored() may: the sessions that it
//     is for held their memory before this daemon started, perhaps under a higher limit.
//  2. There is no account with 0 bytes.
// Thread safety: thread-compatible.
class TenantAccounts {
 public:
  explicit TenantAccounts(Bytes limit) : limit_(limit) {}

  // Adds `size` bytes to the tenant's account. False, and no change, when that would exceed the
  // limit.
  bool Charge(Tenant tenant, Bytes size);
  // The same without the limit.
  void ChargeRestored(Tenant tenant, Bytes size);
  // REQUIRES: at least `size` bytes are on the account.
  void Refund(Tenant tenant, Bytes size);

  Bytes limit() const { return limit_; }
  // The bytes on the tenant's account.
  Bytes Held(Tenant tenant) const;
  // How much may still be charged; 0 for an account above the limit.
  Bytes Room(Tenant tenant) const;
  // RESOURCE_EXHAUSTED: why Charge(tenant, size) was refused, and how the user can make room.
  absl::Status Refusal(Tenant tenant, Bytes size) const;

  bool empty() const { return bytes_.empty(); }
  // The bytes of all accounts, recounted. Aborts unless the invariants hold.
  Bytes Sum() const;

 private:
  const Bytes limit_;
  // The largest account that ChargeRestored left; for the check of invariant 1 only.
  Bytes highest_restored_;
  absl::flat_hash_map<Tenant, Bytes> bytes_;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_TENANT_ACCOUNTS_H_
