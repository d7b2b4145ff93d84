#include "client/ctl/replay/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tenure::ctl {

size_t LatencyHistogram::BucketOf(uint64_t nanos) {
  nanos = std::min(nanos, kMaxNanos);
  // A value below 2^kSubBits has a bucket of its own. For a larger one, its leading bit and the
  // kSubBits bits after it select the bucket; the bits below are rounded away by the shift.
  const int shift = std::max(static_cast<int>(std::bit_width(nanos)) - (kSubBits + 1), 0);
  return (static_cast<size_t>(shift) << kSubBits) + static_cast<size_t>(nanos >> shift);
}

uint64_t LatencyHistogram::LargestIn(size_t bucket) {
  // The inverse of BucketOf, for the largest value that lands in the bucket. The first two groups
  // of kSubBits buckets are exact: their shift is 0.
  const size_t sub = size_t{1} << kSubBits;
  if (bucket < 2 * sub) return bucket;
  const size_t shift = (bucket >> kSubBits) - 1;
  return (((bucket - (shift << kSubBits)) + 1) << shift) - 1;
}

void LatencyHistogram::Record(absl::Duration latency) {
  const int64_t nanos = std::max<int64_t>(absl::ToInt64Nanoseconds(latency), 0);
  ++buckets_[BucketOf(static_cast<uint64_t>(nanos))];
  ++count_;
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
}

absl::Duration LatencyHistogram::Percentile(double percent) const {
  if (count_ == 0) return absl::ZeroDuration();
  // The rank counts from 1, so that a percentile near 0 is the smallest latency and not none.
  const uint64_t rank = std::max<uint64_t>(
      1, static_cast<uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) return absl::Nanoseconds(static_cast<int64_t>(LargestIn(i)));
  }
  return absl::Nanoseconds(static_cast<int64_t>(kMaxNanos));
}

nlohmann::json LatencyHistogram::ToJson() const {
  // Only buckets with a count: a replay fills a few dozen of about 1200.
  nlohmann::json json = nlohmann::json::array();
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i] > 0) json.push_back({i, buckets_[i]});
  }
  return json;
}

absl::StatusOr<LatencyHistogram> LatencyHistogram::FromJson(const nlohmann::json& json) {
  LatencyHistogram histogram;
  for (const nlohmann::json& entry : json) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_number_unsigned() ||
        !entry[1].is_number_unsigned() || entry[0].get<uint64_t>() >= kBuckets) {
      return absl::InvalidArgumentError("not a histogram");
    }
    histogram.buckets_[entry[0].get<uint64_t>()] += entry[1].get<uint64_t>();
    histogram.count_ += entry[1].get<uint64_t>();
  }
  return histogram;
}

}  // namespace tenure::ctl
