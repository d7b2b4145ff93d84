// The results of a benchmark, beside the values that were promised.
#ifndef TESTS_BENCHMARK_REPORT_H_
#define TESTS_BENCHMARK_REPORT_H_

#include <string>
#include <vector>

namespace tenure::testing {

// Rows of a table, printed at the end.
//
// Thread safety: thread-compatible.
class Report {
 public:
  // A figure without a promise.
  void AddFigure(const std::string& what, const std::string& figure);
  // A figure with its promise in words, and whether the figure keeps it.
  void AddPromise(const std::string& what, const std::string& figure, const std::string& promise,
                  bool kept);

  void Print() const;
  // The number of promises that were not kept.
  int missed() const { return missed_; }

 private:
  struct Row {
    std::string what;
    std::string figure;
    std::string promise;
    std::string outcome;
  };

  std::vector<Row> rows_;
  int missed_ = 0;
};

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_REPORT_H_
