// What a benchmark found, beside what was promised.
#ifndef TESTS_BENCHMARK_REPORT_H_
#define TESTS_BENCHMARK_REPORT_H_

#include <string>
#include <vector>

namespace tenure::testing {

// Rows of a table, printed at the end. Thread safety: thread-compatible.
class Report {
 public:
  // A figure that nobody promised anything about.
  void Tell(const std::string& what, const std::string& figure);
  // `promise` in words, and whether the figure keeps it.
  void Judge(const std::string& what, const std::string& figure, const std::string& promise,
             bool kept);

  void Print() const;
  // How many promises were missed.
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
