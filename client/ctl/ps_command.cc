#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"

#include "client/ctl/commands.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/stats_client.h"
#include "client/ctl/table.h"
#include "client/ctl/text.h"
#include "common/bytes.h"

namespace tenure::ctl {
namespace {

// "12 s", or "3 s overdue" for a lease that has expired.
std::string LeaseLeft(int64_t ms) {
  if (ms >= 0) return Age(static_cast<uint64_t>(ms));
  return absl::StrCat(Age(static_cast<uint64_t>(-ms)), " overdue");
}

Table SessionTable(const v1::ListSessionsResponse& list) {
  Table table({{"SESSION"},
               {"PID", Table::Align::kRight},
               {"TENANT"},
               {"NAME"},
               {"STATE"},
               {"AGE"},
               {"LEASE LEFT"},
               {"ALLOCATIONS", Table::Align::kRight},
               {"GRANTED", Table::Align::kRight},
               {"LEASED", Table::Align::kRight},
               {"REGIONS", Table::Align::kRight}});
  for (const v1::Session& one : list.sessions()) {
    // Only a suspended session has a cause: "SUSPENDED: stopped".
    const std::string state =
        one.cause().empty() ? one.state() : absl::StrCat(one.state(), ": ", one.cause());
    table.Add({absl::StrCat(one.session_id()), absl::StrCat(one.pid()), one.tenant(), one.name(),
               state, Age(one.age_ms()), LeaseLeft(one.lease_left_ms()),
               absl::StrCat(one.allocations()), FormatBytes(Bytes(one.allocated_bytes())),
               FormatBytes(Bytes(one.leased_bytes())), absl::StrCat(one.regions())});
  }
  return table;
}

Table QuarantineTable(const v1::ListSessionsResponse& list) {
  Table table({{"SESSION"},
               {"PID", Table::Align::kRight},
               {"TENANT"},
               {"STATE"},
               {"BYTES", Table::Align::kRight},
               {"REGIONS", Table::Align::kRight},
               {"FOR"},
               {"BECAUSE"}});
  for (const v1::Quarantine& one : list.quarantines()) {
    table.Add({absl::StrCat(one.session_id()), absl::StrCat(one.pid()), one.tenant(), one.state(),
               FormatBytes(Bytes(one.quarantined_bytes())), absl::StrCat(one.regions()),
               Age(one.age_ms()), one.reason()});
  }
  return table;
}

}  // namespace

ExitCode RunPs(const CommonOptions& options) {
  const absl::StatusOr<StatsClient> client = StatsClient::Open(options.socket);
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::StatusOr<v1::ListSessionsResponse> list = client->ListSessions();
  if (!list.ok()) return Fail(list.status(), Stage::kCalling);
  if (options.json) {
    std::cout << TextOf(ToJson(*list)) << "\n";
    return kOk;
  }
  std::cout << SessionTable(*list).ToString();
  // Usually empty: a dead process waits for its proof only for milliseconds.
  const Table quarantines = QuarantineTable(*list);
  if (!quarantines.empty()) std::cout << "\ndead, not yet reclaimed:\n" << quarantines.ToString();
  return kOk;
}

}  // namespace tenure::ctl
