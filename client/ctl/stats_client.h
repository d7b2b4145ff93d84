// The Stats service of the daemon, as calls.
#ifndef CLIENT_CTL_STATS_CLIENT_H_
#define CLIENT_CTL_STATS_CLIENT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "tenure/v1/stats.grpc.pb.h"

namespace tenure::ctl {

// Calls the Stats service, with a deadline of 10 s for each call. Needs no session.
//
// Owns: its channel.
// Thread safety: thread-safe.
// Errors: UNAVAILABLE or DEADLINE_EXCEEDED: the daemon could not be reached; NOT_FOUND: an unknown
// or foreign id.
class StatsClient {
 public:
  // Errors: as CheckSocket.
  static absl::StatusOr<StatsClient> Open(const std::string& socket);

  absl::StatusOr<v1::GetStatsResponse> GetStats() const;
  absl::StatusOr<v1::ListSessionsResponse> ListSessions() const;
  absl::StatusOr<v1::ListSegmentsResponse> ListSegments() const;
  // Reads all pages. `session_id` 0: all sessions that the caller may see.
  absl::StatusOr<std::vector<v1::Allocation>> ListAllocations(uint64_t session_id) const;

 private:
  explicit StatsClient(std::shared_ptr<v1::Stats::Stub> stub) : stub_(std::move(stub)) {}

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::Stats::Stub::*method)(grpc::ClientContext*,
                                                                        const Request&, Response*),
                                const Request& request) const;

  std::shared_ptr<v1::Stats::Stub> stub_;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_STATS_CLIENT_H_
