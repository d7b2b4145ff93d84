// Measured times and their quantiles.
#ifndef TESTS_BENCHMARK_SAMPLES_H_
#define TESTS_BENCHMARK_SAMPLES_H_

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace tenure::testing {

using SteadyClock = std::chrono::steady_clock;

// Microseconds since `start`.
double MicrosecondsSince(SteadyClock::time_point start);

// Times in microseconds.
//
// Thread safety: thread-compatible.
class Samples {
 public:
  void Add(double us) { us_.push_back(us); }
  void Append(const Samples& other) { us_.insert(us_.end(), other.us_.begin(), other.us_.end()); }
  size_t size() const { return us_.size(); }
  const std::vector<double>& all() const { return us_; }
  // The time that this share of the samples does not exceed: 0.5 is the median, 1 the maximum.
  // 0 when there are no samples.
  double Quantile(double share) const;

 private:
  std::vector<double> us_;
};

// "87 us", "1.3 ms" or "2.04 s".
std::string FormatTime(double us);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_SAMPLES_H_
