#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "client/ctl/commands.h"
#include "client/ctl/explanation.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/stats_client.h"
#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

// All objects that the user's word may name. One number may name a session and an allocation,
// because each kind has its own sequence of ids. A pid cannot be confused with an id: ids are far
// larger.
struct Findings {
  std::vector<v1::Session> sessions;
  std::vector<v1::Quarantine> quarantines;
  std::vector<v1::Allocation> allocations;
  std::vector<v1::Segment> segments;
  bool empty() const {
    return sessions.empty() && quarantines.empty() && allocations.empty() && segments.empty();
  }
};

// Lists everything that the caller may see, because the daemon has no call that looks up one
// object.
absl::StatusOr<Findings> ListAll(const StatsClient& client) {
  TENURE_ASSIGN_OR_RETURN(const v1::ListSessionsResponse list, client.ListSessions());
  TENURE_ASSIGN_OR_RETURN(std::vector<v1::Allocation> allocations, client.ListAllocations(0));
  TENURE_ASSIGN_OR_RETURN(const v1::ListSegmentsResponse segments, client.ListSegments());
  return Findings{{list.sessions().begin(), list.sessions().end()},
                  {list.quarantines().begin(), list.quarantines().end()},
                  std::move(allocations),
                  {segments.segments().begin(), segments.segments().end()}};
}

Findings Find(const Findings& all, const std::string& what) {
  Findings found;
  uint64_t id = 0;
  if (absl::SimpleAtoi(what, &id)) {
    for (const v1::Session& one : all.sessions) {
      if (one.session_id() == id || one.pid() == id) found.sessions.push_back(one);
    }
    for (const v1::Quarantine& one : all.quarantines) {
      if (one.session_id() == id || one.pid() == id) found.quarantines.push_back(one);
    }
    for (const v1::Allocation& one : all.allocations) {
      if (one.allocation_id() == id) found.allocations.push_back(one);
    }
  }
  // Not "else": the name of a segment may consist of digits.
  for (const v1::Segment& one : all.segments) {
    if (one.name() == what) found.segments.push_back(one);
  }
  return found;
}

template <typename Messages>
nlohmann::ordered_json ToJsonList(const Messages& messages) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const auto& one : messages) list.push_back(ToJson(one));
  return list;
}

}  // namespace

ExitCode RunExplain(const CommonOptions& options, const std::string& what) {
  const absl::StatusOr<StatsClient> client = StatsClient::Open(options.socket);
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::StatusOr<Findings> all = ListAll(*client);
  if (!all.ok()) return Fail(all.status(), Stage::kCalling);
  const Findings found = Find(*all, what);
  if (found.empty()) {
    return Fail(absl::NotFoundError(absl::StrCat(
                    "no session, allocation, process or segment ", what,
                    " that you may see; `tenurectl ps`, `tenurectl ls` and `tenurectl segments` "
                    "list them")),
                Stage::kCalling);
  }
  if (options.json) {
    std::cout << TextOf(nlohmann::ordered_json{{"sessions", ToJsonList(found.sessions)},
                                               {"quarantines", ToJsonList(found.quarantines)},
                                               {"allocations", ToJsonList(found.allocations)},
                                               {"segments", ToJsonList(found.segments)}})
              << "\n";
    return kOk;
  }
  // The lists are complete, so the segments of a session and the sessions of a segment are found
  // without more calls.
  for (const v1::Session& one : found.sessions) {
    std::cout << Explain(one) << ExplainUse(one.session_id(), all->segments);
  }
  for (const v1::Quarantine& one : found.quarantines) std::cout << Explain(one);
  for (const v1::Allocation& one : found.allocations) std::cout << Explain(one);
  for (const v1::Segment& one : found.segments) std::cout << Explain(one, all->sessions);
  return kOk;
}

}  // namespace tenure::ctl
