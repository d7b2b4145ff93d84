#include "server/report/metrics.h"

#include <optional>
#include <utility>
#include <vector>

#include <prometheus/text_serializer.h>

#include "server/report/reclaim_times.h"

namespace tenure::server {
namespace {

// Upper bounds, in seconds: from well below an empty call to well above the slowest driver call
// measured.
const prometheus::Histogram::BucketBoundaries kRpcSeconds = {
    5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.5, 2.5};
const prometheus::Histogram::BucketBoundaries kReclaimSeconds = {
    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2, 10, 60};

}  // namespace

Metrics::Metrics(Stats& stats, int gpu, const std::string& uuid, const std::string& version)
    : stats_(stats), labels_({{"gpu", std::to_string(gpu)}, {"UUID", uuid}}) {
  // Every histogram is registered here, so that a scraper sees it with 0 samples before the first.
  const auto since_death = [this](const std::string& name, const std::string& help) {
    return &prometheus::BuildHistogram()
                .Name(name)
                .Help(help)
                .Labels(labels_)
                .Register(registry_)
                .Add({}, kReclaimSeconds);
  };
  quarantine_ =
      since_death("tenure_quarantine_duration_seconds",
                  "From the exit of a client to the moment when its regions are in quarantine.");
  reclaim_ =
      since_death("tenure_reclaim_duration_seconds",
                  "From the exit of a client to the proof that its regions may serve again.");
  scrub_ = since_death("tenure_scrub_duration_seconds",
                       "From that proof to the moment when the last of its regions is cleared.");
  auto& rpcs = prometheus::BuildHistogram()
                   .Name("tenure_rpc_duration_seconds")
                   .Help("Time inside the daemon, by method.")
                   .Labels(labels_)
                   .Register(registry_);
  allocate_ = &rpcs.Add({{"method", "Allocate"}}, kRpcSeconds);
  free_ = &rpcs.Add({{"method", "Free"}}, kRpcSeconds);
  other_ = &rpcs.Add({{"method", "other"}}, kRpcSeconds);
  prometheus::BuildGauge()
      .Name("tenure_build_info")
      .Help("1, with the version of the daemon.")
      .Labels(labels_)
      .Register(registry_)
      .Add({{"version", version}})
      .Set(1);
}

void Metrics::RpcDone(Method method, absl::Duration took) {
  prometheus::Histogram* histogram = method == Method::kAllocate ? allocate_
                                     : method == Method::kFree   ? free_
                                                                 : other_;
  histogram->Observe(absl::ToDoubleSeconds(took));
}

void Metrics::Reclaimed(const Lease& lease) {
  const std::optional<ReclaimTimes> times = ReclaimTimesOf(lease);
  if (!times) return;
  quarantine_->Observe(absl::ToDoubleSeconds(times->quarantined));
  reclaim_->Observe(absl::ToDoubleSeconds(times->proven));
  scrub_->Observe(absl::ToDoubleSeconds(times->cleared));
}

std::string Metrics::Text() {
  // The histograms are in the registry. Gauges and counters are not: they are made from one
  // snapshot at each scrape, so that they balance as the books do.
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  // Outside the snapshot, because it must also tell that the driver does not answer.
  families.push_back(Family({"tenure_serving",
                             "1 while the daemon grants memory; 0 when it drains or has failed.",
                             prometheus::MetricType::Gauge,
                             "",
                             {{"", stats_.CheckServing().ok() ? 1.0 : 0.0}}}));
  for (prometheus::MetricFamily& family : ReadFamilies()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

prometheus::MetricFamily Metrics::Family(const Figures& figures) const {
  prometheus::MetricFamily family;
  family.name = figures.name;
  family.help = figures.help;
  family.type = figures.type;
  for (const auto& [value_of_label, value] : figures.values) {
    prometheus::ClientMetric metric;
    for (const auto& [key, text] : labels_) metric.label.push_back({key, text});
    if (!figures.label.empty()) metric.label.push_back({figures.label, value_of_label});
    // The serializer writes the member that belongs to the family's type, and no other.
    (figures.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        value;
    family.metric.push_back(std::move(metric));
  }
  return family;
}

std::vector<prometheus::MetricFamily> Metrics::ReadFamilies() {
  // Without an answer from the driver no figure would be true, so the families are left out. The
  // health service tells the reason.
  const absl::StatusOr<StatsSnapshot> snapshot = stats_.TakeSnapshot();
  if (!snapshot.ok()) return {};
  const auto bytes = [](Bytes size) { return static_cast<double>(size.value()); };
  const auto count = [](uint64_t n) { return static_cast<double>(n); };
  constexpr auto kGauge = prometheus::MetricType::Gauge;
  constexpr auto kCounter = prometheus::MetricType::Counter;
  const Books& books = snapshot->device.books;
  const LeaseTotals& leases = snapshot->leases;
  const std::vector<Figures> all = {
      {"tenure_device_memory_bytes",
       "The device's memory, by its use.",
       kGauge,
       "state",
       {{"free", bytes(snapshot->device.driver_free)},
        {"leased", bytes(books.leased)},
        {"warm", bytes(books.warm)},
        {"quarantined", bytes(books.quarantined)},
        {"other", bytes(snapshot->device.other())}}},
      {"tenure_reserved_bytes",
       "Regions that the daemon holds.",
       kGauge,
       "",
       {{"", bytes(books.reserved())}}},
      {"tenure_allocated_bytes",
       "Blocks that clients hold, as granted.",
       kGauge,
       "",
       {{"", bytes(leases.allocated)}}},
      {"tenure_requested_bytes",
       "Blocks that clients hold, as asked for.",
       kGauge,
       "",
       {{"", bytes(leases.requested)}}},
      {"tenure_quarantined_bytes",
       "Regions of dead clients that wait for proof.",
       kGauge,
       "",
       {{"", bytes(books.quarantined)}}},
      {"tenure_sessions",
       "Sessions, by state.",
       kGauge,
       "state",
       {{"active", count(leases.active_sessions)},
        {"suspended", count(leases.suspended_sessions)}}},
      {"tenure_live_allocations",
       "Live allocations.",
       kGauge,
       "",
       {{"", count(leases.active_allocations)}}},
      {"tenure_allocations_total",
       "Allocations asked for, by result.",
       kCounter,
       "result",
       {{"granted", count(leases.allocations)}, {"refused", count(leases.refused_allocations)}}},
      {"tenure_frees_total",
       "Allocations that ended, by reason.",
       kCounter,
       "reason",
       {{"freed", count(leases.frees)}, {"reclaimed", count(leases.reclaimed_allocations)}}},
  };
  std::vector<prometheus::MetricFamily> families;
  for (const Figures& figures : all) families.push_back(Family(figures));
  for (const Figures& figures : SurvivalFigures(*snapshot)) families.push_back(Family(figures));
  return families;
}

std::vector<Metrics::Figures> Metrics::SurvivalFigures(const StatsSnapshot& snapshot) {
  constexpr auto kGauge = prometheus::MetricType::Gauge;
  const LeaseTotals& leases = snapshot.leases;
  // One series for each state, of which one is 1, as Prometheus shows an enumeration.
  const auto is = [&](Survival survival) { return snapshot.survival == survival ? 1.0 : 0.0; };
  return {
      {"tenure_segments",
       "Published segments.",
       kGauge,
       "",
       {{"", static_cast<double>(leases.segments)}}},
      {"tenure_segment_bytes",
       "Of the leased bytes, those in segments.",
       kGauge,
       "",
       {{"", static_cast<double>(leases.segment_bytes.value())}}},
      {"tenure_survival",
       "Whether memory by descriptor outlives the daemon's process: 1 for the present state.",
       kGauge,
       "state",
       {{"off", is(Survival::kOff)}, {"on", is(Survival::kOn)}, {"lost", is(Survival::kLost)}}},
  };
}

}  // namespace tenure::server
