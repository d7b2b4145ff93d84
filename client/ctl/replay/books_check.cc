#include "client/ctl/replay/books_check.h"

#include "absl/strings/str_cat.h"

namespace tenure::ctl {
namespace {

absl::Status Equal(absl::string_view left_name, uint64_t left, absl::string_view right_name,
                   uint64_t right) {
  if (left == right) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the books do not balance: ", left_name, " is ", left,
                                          ", ", right_name, " is ", right));
}

absl::Status AtMost(absl::string_view small_name, uint64_t small, absl::string_view large_name,
                    uint64_t large) {
  if (small <= large) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the books do not balance: ", small_name, ", ", small,
                                          ", is more than ", large_name, ", ", large));
}

}  // namespace

absl::Status CheckBooks(const v1::GetStatsResponse& stats) {
  // Update() keeps the first error, so the message names the first rule that does not hold.
  absl::Status status =
      Equal("total_bytes", stats.total_bytes(), "driver_free + reserved + other",
            stats.driver_free_bytes() + stats.reserved_bytes() + stats.other_bytes());
  status.Update(Equal("reserved_bytes", stats.reserved_bytes(), "leased + warm + quarantined",
                      stats.leased_bytes() + stats.warm_bytes() + stats.quarantined_bytes()));
  status.Update(AtMost("requested_bytes", stats.requested_bytes(), "allocated_bytes",
                       stats.allocated_bytes()));
  return status;
}

absl::Status CheckHoldings(const v1::Session& session, const Holdings& holdings) {
  absl::Status status = Equal("the session's allocations at the daemon", session.allocations(),
                              "the allocations that this process holds", holdings.allocations);
  status.Update(Equal("the session's allocated_bytes", session.allocated_bytes(),
                      "the bytes that this process was granted", holdings.granted.value()));
  status.Update(Equal("the session's requested_bytes", session.requested_bytes(),
                      "the bytes that this process asked for", holdings.requested.value()));
  return status;
}

}  // namespace tenure::ctl
