#include "server/memory/tenant_accounts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/check.h"

namespace tenure::server {

bool TenantAccounts::Charge(Tenant tenant, Bytes size) {
  // Compared with the room, not as held + size > limit: the sum of two large numbers may wrap.
  if (size > Room(tenant)) return false;
  bytes_[tenant] += size;
  return true;
}

void TenantAccounts::ChargeRestored(Tenant tenant, Bytes size) {
  Bytes& bytes = bytes_[tenant];
  bytes += size;
  highest_restored_ = std::max(highest_restored_, bytes);
}

void TenantAccounts::Refund(Tenant tenant, Bytes size) {
  const auto account = bytes_.find(tenant);
  TENURE_CHECK(account != bytes_.end());
  account->second -= size;
  // Users come and go for as long as the daemon lives. An account that stays behind empty would be
  // memory that only grows.
  if (account->second == Bytes(0)) bytes_.erase(account);
}

Bytes TenantAccounts::Held(Tenant tenant) const {
  const auto account = bytes_.find(tenant);
  return account == bytes_.end() ? Bytes(0) : account->second;
}

Bytes TenantAccounts::Room(Tenant tenant) const {
  const Bytes held = Held(tenant);
  // A restored account may be above the limit (invariant 1).
  return held < limit_ ? limit_ - held : Bytes(0);
}

absl::Status TenantAccounts::Refusal(Tenant tenant, Bytes size) const {
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for ", FormatBytes(size), " (", size.value(), " bytes): ", tenant.ToString(),
      " holds ", FormatBytes(Held(tenant)), " of the ", FormatBytes(limit_),
      " that one tenant may hold, memory in quarantine included; close sessions that are "
      "not needed (`tenurectl ps`), or raise --max-tenant-bytes"));
}

Bytes TenantAccounts::Sum() const {
  Bytes sum;
  for (const auto& [tenant, bytes] : bytes_) {
    TENURE_CHECK(bytes > Bytes(0) && bytes <= std::max(limit_, highest_restored_));
    sum += bytes;
  }
  return sum;
}

}  // namespace tenure::server
