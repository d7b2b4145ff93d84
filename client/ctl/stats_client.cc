#include "client/ctl/stats_client.h"

#include <utility>

#include "client/session/channel.h"
#include "client/session/grpc_status.h"
#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(10);
// 16 384 sessions, the daemon's limit, of at most 300 bytes each.
constexpr Bytes kMaxMessage = MiB(8);

}  // namespace

absl::StatusOr<StatsClient> StatsClient::Open(const std::string& socket) {
  TENURE_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                          OpenChannel(socket, kMaxMessage));
  return StatsClient(v1::Stats::NewStub(channel));
}

template <typename Request, typename Response>
absl::StatusOr<Response> StatsClient::Call(
    grpc::Status (v1::Stats::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const Request& request) const {
  // One attempt without retries: the user can repeat the command.
  grpc::ClientContext context;
  SetTimeout(context, kTimeout);
  Response response;
  const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  return response;
}

absl::StatusOr<v1::GetStatsResponse> StatsClient::GetStats() const {
  return Call(&v1::Stats::Stub::GetStats, v1::GetStatsRequest());
}

absl::StatusOr<v1::ListSessionsResponse> StatsClient::ListSessions() const {
  return Call(&v1::Stats::Stub::ListSessions, v1::ListSessionsRequest());
}

absl::StatusOr<v1::ListSegmentsResponse> StatsClient::ListSegments() const {
  return Call(&v1::Stats::Stub::ListSegments, v1::ListSegmentsRequest());
}

absl::StatusOr<std::vector<v1::Allocation>> StatsClient::ListAllocations(
    uint64_t session_id) const {
  std::vector<v1::Allocation> allocations;
  v1::ListAllocationsRequest request;
  request.set_session_id(session_id);
  do {
    TENURE_ASSIGN_OR_RETURN(v1::ListAllocationsResponse page,
                            Call(&v1::Stats::Stub::ListAllocations, request));
    for (v1::Allocation& one : *page.mutable_allocations()) allocations.push_back(std::move(one));
    // The daemon answers with an empty token on the last page.
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return allocations;
}

}  // namespace tenure::ctl
