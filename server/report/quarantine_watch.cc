#include "server/report/quarantine_watch.h"

namespace tenure::server {

void QuarantineWatch::Maintain() {
  if (clock_.Now() < next_look_) return;
  next_look_ = clock_.Now() + kPause;
  absl::flat_hash_set<SessionId> still;
  size_t reports = 0;
  for (const QuarantineInfo& info : quarantine_.List()) {
    if (info.age < kLong) continue;
    const bool known = reported_.contains(info.session);
    if (!known && reports == kMostAtOnce) continue;
    still.insert(info.session);
    if (known) continue;
    ++reports;
    report_(info);
  }
  reported_ = std::move(still);
}

}  // namespace tenure::server
