// A table of text columns for a terminal.
#ifndef CLIENT_CTL_TABLE_H_
#define CLIENT_CTL_TABLE_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace tenure::ctl {

// Columns as wide as their widest cell, two spaces apart. Cells are made printable.
//
// Thread safety: thread-compatible.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // REQUIRES: as many cells as there are columns.
  void Add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // One line for the titles and one for each row. Each begins with `indent` spaces and ends with a
  // newline.
  std::string ToString(size_t indent = 0) const;

 private:
  std::string Line(const std::vector<std::string>& cells, const std::vector<size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_TABLE_H_
