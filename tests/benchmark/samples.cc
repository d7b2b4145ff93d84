#include "tests/benchmark/samples.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace tenure::testing {

double MicrosecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double, std::micro>(SteadyClock::now() - start).count();
}

double Samples::Quantile(double share) const {
  if (us_.empty()) return 0;
  std::vector<double> sorted = us_;
  const auto at =
      sorted.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), at, sorted.end());
  return *at;
}

std::string FormatTime(double us) {
  if (us < 1e3) return absl::StrFormat("%.0f us", us);
  if (us < 1e6) return absl::StrFormat("%.1f ms", us / 1e3);
  return absl::StrFormat("%.2f s", us / 1e6);
}

}  // namespace tenure::testing
