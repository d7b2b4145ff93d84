#include "client/ctl/table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "client/ctl/text.h"
#include "common/check.h"

namespace tenure::ctl {

void Table::Add(std::vector<std::string> cells) {
  TENURE_CHECK(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::Line(const std::vector<std::string>& cells,
                        const std::vector<size_t>& widths) const {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::string padding(widths[i] - Width(cells[i]), ' ');
    const bool right = columns_[i].align == Align::kRight;
    absl::StrAppend(&line, i == 0 ? "" : "  ", right ? padding : "", cells[i],
                    right ? "" : padding);
  }
  // Without the padding of the last column, lines do not wrap on a narrow terminal.
  absl::StripTrailingAsciiWhitespace(&line);
  return line;
}

std::string Table::ToString(size_t indent) const {
  std::vector<std::string> titles;
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    widths.push_back(Width(columns_[i].title));
    for (const std::vector<std::string>& row : rows_) {
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  }
  const std::string margin(indent, ' ');
  std::string text = absl::StrCat(margin, Line(titles, widths), "\n");
  for (const std::vector<std::string>& row : rows_) {
    absl::StrAppend(&text, margin, Line(row, widths), "\n");
  }
  return text;
}

}  // namespace tenure::ctl
