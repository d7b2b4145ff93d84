#include "server/calls/ticket_table.h"

#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/cuda/no_driver_calls.h"

namespace tenure::server {
namespace {

absl::Status NoSuchTicket() {
  return absl::NotFoundError(
      "the ticket is unknown, used, expired or another process's; ask for a new one with "
      "tenure.v1.Allocator/RequestRegionFd");
}

}  // namespace

absl::StatusOr<std::string> TicketTable::Issue(const Peer& to, const RegionName& region) {
  Ticket ticket = {};
  // getrandom(2) fills up to 256 bytes completely, once the kernel has gathered entropy at boot.
  if (getrandom(ticket.data(), ticket.size(), 0) != static_cast<ssize_t>(ticket.size())) {
    return absl::ErrnoToStatus(errno, "the kernel gives no random numbers");
  }
  cuda::NoDriverCallsLock lock(&mu_);
  DropExpired();
  if (expiries_.size() >= kMaxTickets) {
    return absl::ResourceExhaustedError(absl::StrCat(kMaxTickets, " tickets were issued within ",
                                                     absl::FormatDuration(kLifetime),
                                                     "; try again later"));
  }
  entries_.emplace(ticket, Entry{to.key(), to.uid(), region});
  expiries_.emplace_back(clock_.Now() + kLifetime, ticket);
  return std::string(ticket.data(), ticket.size());
}

absl::StatusOr<RegionName> TicketTable::Redeem(absl::string_view ticket, const Peer& by) {
  Ticket key = {};
  if (ticket.size() != key.size()) return NoSuchTicket();
  std::memcpy(key.data(), ticket.data(), key.size());
  cuda::NoDriverCallsLock lock(&mu_);
  DropExpired();
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.process != by.key() ||
      found->second.uid != by.uid()) {
    return NoSuchTicket();
  }
  // Erased before the region is looked up: a second request with this ticket finds nothing, even
  // when the first one fails.
  const RegionName region = found->second.region;
  entries_.erase(found);
  return region;
}

void TicketTable::DropExpired() {
  // All tickets live equally long, so the oldest expires first.
  const BootTime now = clock_.Now();
  while (!expiries_.empty() && expiries_.front().first <= now) {
    entries_.erase(expiries_.front().second);
    expiries_.pop_front();
  }
}

}  // namespace tenure::server
