// The report of a replay: the results of all workers added up, as text and as JSON.
#ifndef CLIENT_CTL_REPLAY_REPLAY_REPORT_H_
#define CLIENT_CTL_REPLAY_REPLAY_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "client/ctl/replay/latency_histogram.h"
#include "client/ctl/replay/replay_options.h"
#include "client/ctl/replay/worker_outcome.h"
#include "common/bytes.h"

namespace tenure::ctl {

struct ReplayReport {
  std::vector<WorkerOutcome> workers;
  Bytes peak_live;  // asked for and held at once by all workers

  uint64_t operations = 0;
  uint64_t checks = 0;
  uint64_t deaths = 0;
  absl::Duration elapsed;  // from the first worker's beginning to the last one's end
  Bytes peak_leased;
  Bytes peak_reserved;
  LatencyHistogram allocate;
  LatencyHistogram free;
  std::string first_error;  // names the worker; empty when there was none
};

// `deaths_allowed`: a death is no error.
ReplayReport AddUp(std::vector<WorkerOutcome> workers, Bytes peak_live, bool deaths_allowed);

std::string ToText(const ReplayReport& report, const ReplayOptions& options);
nlohmann::ordered_json ToJson(const ReplayReport& report, const ReplayOptions& options);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_REPLAY_REPORT_H_
