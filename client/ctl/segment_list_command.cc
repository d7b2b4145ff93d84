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

Table SegmentTable(const v1::ListSegmentsResponse& list) {
  Table table({{"NAME"},
               {"OWNER"},
               {"STATE"},
               {"SIZE", Table::Align::kRight},
               {"KIND"},
               {"BLOCKS", Table::Align::kRight},
               {"TENSORS", Table::Align::kRight},
               {"ATTACHED", Table::Align::kRight},
               {"AGE"},
               {"OUTLIVES THE DAEMON"}});
  for (const v1::Segment& one : list.segments()) {
    const std::string owner = absl::StrCat("uid:", one.owner_uid());
    // The size, the kind and the other columns are known only after the loader has published.
    if (one.state() == "LOADING") {
      const std::string by = absl::StrCat("LOADING by session ", one.loading_session_id());
      table.Add({one.name(), owner, by, "", "", "", "", "", "", ""});
      continue;
    }
    table.Add({one.name(), owner, one.state(), FormatBytes(Bytes(one.size_bytes())),
               one.memory_kind(), absl::StrCat(one.blocks()), absl::StrCat(one.tensors()),
               absl::StrCat(one.attached_session_ids_size()), Age(one.age_ms()),
               one.survives_daemon() ? "yes" : "no"});
  }
  return table;
}

}  // namespace

ExitCode RunSegments(const CommonOptions& options) {
  const absl::StatusOr<StatsClient> client = StatsClient::Open(options.socket);
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::StatusOr<v1::ListSegmentsResponse> list = client->ListSegments();
  if (!list.ok()) return Fail(list.status(), Stage::kCalling);
  std::cout << (options.json ? TextOf(ToJson(*list)) + "\n" : SegmentTable(*list).ToString());
  return kOk;
}

}  // namespace tenure::ctl
