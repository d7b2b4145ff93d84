// Notices regions that stay in quarantine.
#ifndef SERVER_REPORT_QUARANTINE_WATCH_H_
#define SERVER_REPORT_QUARANTINE_WATCH_H_

#include <functional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "server/identity/ids.h"
#include "server/leases/quarantine.h"

namespace tenure::server {

// Reports each dead session whose regions have been in quarantine for ten seconds, once, and at
// most five sessions at a time: a proof usually comes within milliseconds, and what keeps one back
// usually keeps back many.
//
// Borrows: the quarantine and the clock.
// Thread safety: thread-confined.
class QuarantineWatch {
 public:
  static constexpr absl::Duration kLong = absl::Seconds(10);
  // How often the quarantine is looked at.
  static constexpr absl::Duration kPause = absl::Seconds(5);
  static constexpr size_t kMostAtOnce = 5;

  QuarantineWatch(const Quarantine& quarantine, const Clock& clock,
                  std::function<void(const QuarantineInfo&)> report)
      : quarantine_(quarantine), clock_(clock), report_(std::move(report)) {}

  void Maintain();

 private:
  const Quarantine& quarantine_;
  const Clock& clock_;
  const std::function<void(const QuarantineInfo&)> report_;
  BootTime next_look_;
  absl::flat_hash_set<SessionId> reported_;  // and still in quarantine
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_QUARANTINE_WATCH_H_
