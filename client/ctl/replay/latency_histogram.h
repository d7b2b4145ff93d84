// A histogram of call latencies that can be merged across processes.
#ifndef CLIENT_CTL_REPLAY_LATENCY_HISTOGRAM_H_
#define CLIENT_CTL_REPLAY_LATENCY_HISTOGRAM_H_

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

namespace tenure::ctl {

// Counts latencies in buckets whose width is 1/32 of their value. A percentile is therefore off by
// at most 3 %, and merging the histograms of several processes loses nothing.
//
// Thread safety: thread-compatible.
class LatencyHistogram {
 public:
  void Record(absl::Duration latency);
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  // The latency that `percent` of the calls did not exceed; zero when there were none.
  absl::Duration Percentile(double percent) const;

  // [[bucket, count], ...], for another process of the same program.
  nlohmann::json ToJson() const;
  // Errors: INVALID_ARGUMENT: `json` was not made by ToJson.
  static absl::StatusOr<LatencyHistogram> FromJson(const nlohmann::json& json);

 private:
  // 32 buckets for each power of two of nanoseconds, up to 2^42 ns (73 minutes).
  static constexpr int kSubBits = 5;
  static constexpr uint64_t kMaxNanos = (uint64_t{1} << 42) - 1;
  static constexpr size_t kBuckets = (42 - kSubBits + 1) << kSubBits;

  static size_t BucketOf(uint64_t nanos);
  static uint64_t LargestIn(size_t bucket);

  std::array<uint64_t, kBuckets> buckets_ = {};
  uint64_t count_ = 0;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_LATENCY_HISTOGRAM_H_
