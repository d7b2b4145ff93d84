// Counters and times for people who watch many daemons.
#ifndef SERVER_REPORT_METRICS_H_
#define SERVER_REPORT_METRICS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "server/report/stats.h"

namespace tenure::server {

// The tenure_* metric families. What is held and what was counted is read from the books when
// somebody asks; times are noted where they pass. Labels `gpu` and `UUID` as dcgm-exporter spells
// them; never a pid.
//
// Borrows: the stats.
// Thread safety: thread-safe.
class Metrics {
 public:
  Metrics(Stats& stats, int gpu, const std::string& uuid, const std::string& version);

  enum class Method { kAllocate, kFree, kOther };
  void RpcDone(Method method, absl::Duration took);
  // A dead client's regions serve again: how long after its exit they were quarantined and it was
  // proven silent, and how long clearing took from there.
  void Reclaimed(absl::Duration quarantined, absl::Duration proven, absl::Duration cleared);

  // The text that GET /metrics answers.
  std::string Text();

 private:
  // One family read from the picture: pairs of the label's value and the figure. Without a label,
  // one pair.
  struct Figures {
    std::string name;
    std::string help;
    prometheus::MetricType type = prometheus::MetricType::Gauge;
    std::string label;
    std::vector<std::pair<std::string, double>> values;
  };
  prometheus::MetricFamily Family(const Figures& figures) const;
  std::vector<prometheus::MetricFamily> FromPicture();
  // Of what outlives sessions, and the daemon.
  static std::vector<Figures> Outliving(const StatsPicture& picture);

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
