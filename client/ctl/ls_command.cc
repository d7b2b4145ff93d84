#include <iostream>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/ctl/commands.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/stats_client.h"
#include "client/ctl/table.h"
#include "client/ctl/text.h"
#include "common/bytes.h"
#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

Table AllocationTable(const std::vector<v1::Allocation>& allocations) {
  Table table({{"ALLOCATION"},
               {"SESSION"},
               {"PID", Table::Align::kRight},
               {"GRANTED", Table::Align::kRight},
               {"ASKED FOR", Table::Align::kRight},
               {"PLACEMENT"},
               {"KIND"},
               {"REGION"},
               {"OFFSET", Table::Align::kRight},
               {"AGE"}});
  for (const v1::Allocation& one : allocations) {
    table.Add({absl::StrCat(one.allocation_id()), absl::StrCat(one.session_id()),
               absl::StrCat(one.pid()), FormatBytes(Bytes(one.size_bytes())),
               FormatBytes(Bytes(one.requested_bytes())), one.placement(), one.memory_kind(),
               absl::StrCat(one.region_id()), FormatBytes(Bytes(one.offset_bytes())),
               Age(one.age_ms())});
  }
  return table;
}

// The daemon answers an unknown session like one without allocations. So that a user sees the
// difference, the session is looked up in the list of sessions.
absl::Status CheckSession(const StatsClient& client, uint64_t session_id) {
  if (session_id == 0) return absl::OkStatus();
  TENURE_ASSIGN_OR_RETURN(const v1::ListSessionsResponse list, client.ListSessions());
  for (const v1::Session& session : list.sessions()) {
    if (session.session_id() == session_id) return absl::OkStatus();
  }
  return absl::NotFoundError(
      absl::StrCat("no session ", session_id, "; `tenurectl ps` lists them"));
}

}  // namespace

ExitCode RunLs(const CommonOptions& options, uint64_t session_id) {
  const absl::StatusOr<StatsClient> client = StatsClient::Open(options.socket);
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::Status known = CheckSession(*client, session_id);
  if (!known.ok()) return Fail(known, Stage::kCalling);
  const absl::StatusOr<std::vector<v1::Allocation>> list = client->ListAllocations(session_id);
  if (!list.ok()) return Fail(list.status(), Stage::kCalling);
  if (!options.json) {
    std::cout << AllocationTable(*list).ToString();
    return kOk;
  }
  // The form of one ListAllocationsResponse, although the daemon answered in several pages.
  nlohmann::ordered_json allocations = nlohmann::ordered_json::array();
  for (const v1::Allocation& one : *list) allocations.push_back(ToJson(one));
  std::cout << TextOf(nlohmann::ordered_json{{"allocations", std::move(allocations)}}) << "\n";
  return kOk;
}

}  // namespace tenure::ctl
