#include "client/ctl/replay/latency_histogram.h"

#include <gtest/gtest.h>

namespace tenure::ctl {
namespace {

TEST(LatencyHistogramTest, PercentilesAreWithinThreePercent) {
  LatencyHistogram histogram;
  for (int us = 1; us <= 10'000; ++us) histogram.Record(absl::Microseconds(us));
  EXPECT_NEAR(absl::ToDoubleMicroseconds(histogram.Percentile(50)), 5000, 160);
  EXPECT_NEAR(absl::ToDoubleMicroseconds(histogram.Percentile(99)), 9900, 320);
  EXPECT_EQ(LatencyHistogram().Percentile(99), absl::ZeroDuration());
}

TEST(LatencyHistogramTest, ExtremesAreKept) {
  LatencyHistogram histogram;
  histogram.Record(-absl::Seconds(1));
  EXPECT_EQ(histogram.Percentile(100), absl::ZeroDuration());
  histogram.Record(absl::Hours(24 * 365));
  EXPECT_GT(histogram.Percentile(100), absl::Hours(1));
}

TEST(LatencyHistogramTest, TravelsAsJson) {
  LatencyHistogram histogram;
  for (const int us : {1, 1, 77, 5000}) histogram.Record(absl::Microseconds(us));
  absl::StatusOr<LatencyHistogram> copy = LatencyHistogram::FromJson(histogram.ToJson());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(copy->count(), 4u);
  EXPECT_EQ(copy->Percentile(75), histogram.Percentile(75));
  copy->Merge(histogram);
  EXPECT_EQ(copy->count(), 8u);
  for (const char* json : {"[[1]]", "[[1,-1]]", "[[99999,1]]", "[1]", "[[\"a\",1]]"}) {
    EXPECT_FALSE(LatencyHistogram::FromJson(nlohmann::json::parse(json)).ok()) << json;
  }
}

}  // namespace
}  // namespace tenure::ctl
