#include "server/connection_table.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tenure::server {

void ConnectionTable::Enter(int socket, Caller caller) {
  absl::MutexLock lock(&mu_);
  entries_[socket] =
      caller.ok() ? Entry{*std::move(caller), absl::OkStatus()} : Entry{nullptr, caller.status()};
}

ConnectionTable::Caller ConnectionTable::Find(absl::string_view peer) const {
  int socket = -1;
  if (absl::ConsumePrefix(&peer, "fd:") && absl::SimpleAtoi(peer, &socket)) {
    absl::ReaderMutexLock lock(&mu_);
    const auto found = entries_.find(socket);
    if (found != entries_.end() && found->second.peer != nullptr) return found->second.peer;
    if (found != entries_.end()) return found->second.refusal;
  }
  return absl::InternalError("the connection did not come through the daemon's listener");
}

}  // namespace tenure::server
