#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/ctl/commands.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/stats_client.h"
#include "client/ctl/text.h"
#include "common/bytes.h"

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
  if (!findings.empty()) return findings;
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

std::string Why(const v1::Session& session) {
  if (session.cause().empty()) {
    return absl::StrCat("Its keep-alives come in time; the next is due within ",
                        Age(static_cast<uint64_t>(session.lease_left_ms())), ".");
  }
  const std::string since =
      absl::StrCat(" Its keep-alive is ", Age(static_cast<uint64_t>(-session.lease_left_ms())),
                   " overdue: it is granted nothing new and keeps what it holds.");
  if (session.cause() == "stopped") {
    return absl::StrCat("The process is stopped, by SIGSTOP or a debugger.", since, " `kill -CONT ",
                        session.pid(), "` continues it.");
  }
  if (session.cause() == "hung") {
    return absl::StrCat("The process runs, yet says nothing.", since, " `tenurectl revoke ",
                        session.session_id(), "` kills it.");
  }
  return absl::StrCat("The process has not spoken in time.", since);
}

std::string Explain(const v1::Session& one) {
  return absl::StrCat(
      "session ", one.session_id(), ": process ", one.pid(), " (", Printable(one.name()), ", ",
      Printable(one.tenant()), ") holds ", one.allocations(), " allocations, ",
      FormatBytes(Bytes(one.allocated_bytes())), " in ", one.regions(), " regions of ",
      FormatBytes(Bytes(one.leased_bytes())), ".\n", Why(one), "\n");
}

std::string Explain(const v1::Quarantine& one) {
  return absl::StrCat(
      "session ", one.session_id(), ": process ", one.pid(), " (", Printable(one.name()), ", ",
      Printable(one.tenant()), ") died ", Age(one.age_ms()), " ago and left ",
      FormatBytes(Bytes(one.quarantined_bytes())), " in ", one.regions(),
      " regions.\nThey are not given to anybody yet: ", Printable(one.reason()),
      ".\nUntil then they count on its tenant's account. `fuser -v /dev/nvidia*` names the "
      "processes "
      "that keep the device's files open; when the last of them ends, the memory comes back.\n");
}

std::string Explain(const v1::Allocation& one) {
  return absl::StrCat(
      "allocation ", one.allocation_id(), ": ", FormatBytes(Bytes(one.size_bytes())), " for ",
      FormatBytes(Bytes(one.requested_bytes())), " asked for, ",
      one.placement() == "direct" ? "a region of its own" : "from a pool", ", at offset ",
      FormatBytes(Bytes(one.offset_bytes())), " of region ", one.region_id(), ", held by process ",
      one.pid(), " in session ", one.session_id(), " for ", Age(one.age_ms()), ".\n");
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
