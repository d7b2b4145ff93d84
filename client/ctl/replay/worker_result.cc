#include "client/ctl/replay/worker_result.h"

namespace tenure::ctl {
namespace {

using Json = nlohmann::json;

// Reads fields of an object, and records whether each was present with its type. After the first
// that was not, every read returns an empty value.
class Fields {
 public:
  explicit Fields(const Json& json) : json_(json), ok_(json.is_object()) {}

  uint64_t Number(const char* name) {
    if (!ok_) return 0;
    const auto found = json_.find(name);
    ok_ = found != json_.end() && found->is_number_unsigned();
    return ok_ ? found->get<uint64_t>() : 0;
  }
  LatencyHistogram Histogram(const char* name) {
    if (!ok_) return {};
    const auto found = json_.find(name);
    ok_ = found != json_.end();
    absl::StatusOr<LatencyHistogram> histogram = LatencyHistogram::FromJson(ok_ ? *found : Json());
    ok_ = ok_ && histogram.ok();
    return ok_ ? *histogram : LatencyHistogram();
  }
  bool ok() const { return ok_; }

 private:
  const Json& json_;
  bool ok_;
};

uint64_t Nanos(BootTime time) { return static_cast<uint64_t>(absl::ToInt64Nanoseconds(time)); }

BootTime FromNanos(uint64_t nanos) { return absl::Nanoseconds(static_cast<int64_t>(nanos)); }

}  // namespace

Json WorkerResult::ToJson() const {
  return Json{{"operations", operations},
              {"checks", checks},
              {"began_ns", Nanos(began)},
              {"ended_ns", Nanos(ended)},
              {"peak_live_bytes", peak_live.value()},
              {"peak_leased_bytes", peak_leased.value()},
              {"total_leased_bytes", total_leased.value()},
              {"total_reserved_bytes", total_reserved.value()},
              {"allocate", allocate.ToJson()},
              {"free", free.ToJson()}};
}

absl::StatusOr<WorkerResult> WorkerResult::FromJson(const Json& json) {
  // The parent accepts no partial result: a worker with a missing field counts as failed.
  Fields fields(json);
  WorkerResult result;
  result.operations = fields.Number("operations");
  result.checks = fields.Number("checks");
  result.began = FromNanos(fields.Number("began_ns"));
  result.ended = FromNanos(fields.Number("ended_ns"));
  result.peak_live = Bytes(fields.Number("peak_live_bytes"));
  result.peak_leased = Bytes(fields.Number("peak_leased_bytes"));
  result.total_leased = Bytes(fields.Number("total_leased_bytes"));
  result.total_reserved = Bytes(fields.Number("total_reserved_bytes"));
  result.allocate = fields.Histogram("allocate");
  result.free = fields.Histogram("free");
  if (!fields.ok()) return absl::InvalidArgumentError("not a worker's result");
  return result;
}

}  // namespace tenure::ctl
