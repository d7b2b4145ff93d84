// The daemon's metrics in Prometheus' text format.
#ifndef SERVER_REPORT_METRICS_H_
#define SERVER_REPORT_METRICS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "server/leases/lease.h"
#include "server/report/stats.h"

namespace tenure::server {

// The tenure_* metric families. Gauges and counters are read from Stats at each scrape; only times
// are recorded when they happen. Labels `gpu` and `UUID` are spelled as dcgm-exporter spells them.
// A pid is never a label: each process would start new time series.
//
// Borrows: the stats.
// Thread safety: thread-safe.
class Metrics {
 public:
  Metrics(Stats& stats, int gpu, const std::string& uuid, const std::string& version);

  enum class Method { kAllocate, kFree, kOther };
  // Counts one call that took this long inside the daemon.
  void RpcDone(Method method, absl::Duration took);
  // Counts the times of a dead session whose regions have left quarantine. Regions that went back
  // to the driver without proof have no times.
  void Reclaimed(const Lease& lease);

  // The answer to GET /metrics. Makes one driver call.
  std::string Text();

 private:
  // One family, read from Stats: pairs of the label's value and the figure. A family without a
  // label has one pair.
  struct Figures {
    std::string name;
    std::string help;
    prometheus::MetricType type = prometheus::MetricType::Gauge;
    std::string label;
    std::vector<std::pair<std::string, double>> values;
  };
  prometheus::MetricFamily Family(const Figures& figures) const;
  std::vector<prometheus::MetricFamily> ReadFamilies();
  // The families about memory that outlives sessions, and about the daemon's own survival.
  static std::vector<Figures> SurvivalFigures(const StatsSnapshot& snapshot);

  Stats& stats_;
  const std::map<std::string, std::string> labels_;
  prometheus::Registry registry_;
  prometheus::Histogram* quarantine_;
  prometheus::Histogram* reclaim_;
  prometheus::Histogram* scrub_;
  prometheus::Histogram* allocate_;
  prometheus::Histogram* free_;
  prometheus::Histogram* other_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_METRICS_H_
