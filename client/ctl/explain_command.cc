#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/ctl/commands.h"
#include "client/ctl/explanation.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/stats_client.h"

namespace tenure::ctl {
namespace {

// What the daemon knows under one number: ids of sessions and allocations never are pids, which are
// far smaller.
struct Findings {
  std::vector<v1::Session> sessions;
  std::vector<v1::Quarantine> quarantines;
  std::vector<v1::Allocation> allocations;
  bool empty() const { return sessions.empty() && quarantines.empty() && allocations.empty(); }
};

absl::StatusOr<Findings> Find(const StatsClient& client, uint64_t id) {
  Findings findings;
  const absl::StatusOr<v1::ListSessionsResponse> list = client.ListSessions();
  if (!list.ok()) return list.status();
  for (const v1::Session& one : list->sessions()) {
    if (one.session_id() == id || one.pid() == id) findings.sessions.push_back(one);
  }
  for (const v1::Quarantine& one : list->quarantines()) {
    if (one.session_id() == id || one.pid() == id) findings.quarantines.push_back(one);
  }
  // An id of a session may also be an allocation's: each kind is numbered for itself.
  const absl::StatusOr<std::vector<v1::Allocation>> allocations = client.ListAllocations(0);
  if (!allocations.ok()) return allocations.status();
  for (const v1::Allocation& one : *allocations) {
    if (one.allocation_id() == id) findings.allocations.push_back(one);
  }
  if (findings.empty()) {
    return absl::NotFoundError(absl::StrCat("no session, allocation or process ", id,
                                            " that you may see; `tenurectl ps` and `tenurectl ls` "
                                            "list what there is"));
  }
  return findings;
}

template <typename Messages>
nlohmann::ordered_json ToJsonList(const Messages& messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& one : messages) list.push_back(ToJson(one));
  return list;
}

}  // namespace

ExitCode RunExplain(const CommonOptions& options, uint64_t id) {
  const absl::StatusOr<StatsClient> client = StatsClient::Open(options.socket);
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::StatusOr<Findings> found = Find(*client, id);
  if (!found.ok()) return Fail(found.status(), Stage::kCalling);
  if (options.json) {
    std::cout << nlohmann::ordered_json{{"sessions", ToJsonList(found->sessions)},
                                        {"quarantines", ToJsonList(found->quarantines)},
                                        {"allocations", ToJsonList(found->allocations)}}
                     .dump(2)
              << "\n";
    return kOk;
  }
  for (const v1::Session& one : found->sessions) std::cout << Explain(one);
  for (const v1::Quarantine& one : found->quarantines) std::cout << Explain(one);
  for (const v1::Allocation& one : found->allocations) std::cout << Explain(one);
  return kOk;
}

}  // namespace tenure::ctl
