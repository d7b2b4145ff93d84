#include "tests/benchmark/report.h"

#include <algorithm>
#include <cstdio>

namespace tenure::testing {

void Report::AddFigure(const std::string& what, const std::string& figure) {
  rows_.push_back({what, figure, "", ""});
}

void Report::AddPromise(const std::string& what, const std::string& figure,
                        const std::string& promise, bool kept) {
  rows_.push_back({what, figure, promise, kept ? "kept" : "MISSED"});
  if (!kept) ++missed_;
}

void Report::Print() const {
  const auto widest = [this](std::string Row::*column) {
    size_t width = 0;
    for (const Row& row : rows_) width = std::max(width, (row.*column).size());
    return static_cast<int>(width);
  };
  const int what = widest(&Row::what);
  const int figure = widest(&Row::figure);
  const int promise = widest(&Row::promise);
  for (const Row& row : rows_) {
    std::printf("figure: %-*s  %-*s  %-*s  %s\n", what, row.what.c_str(), figure,
                row.figure.c_str(), promise, row.promise.c_str(), row.outcome.c_str());
  }
}

}  // namespace tenure::testing
