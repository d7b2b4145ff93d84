// Printing for people: tables, bars, ages, and colours where a terminal shows them.
#ifndef CLIENT_CTL_TEXT_H_
#define CLIENT_CTL_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/bytes.h"

namespace tenure::ctl {

// Whether stdout is a terminal that wants colours: no pipe, TERM is not dumb, NO_COLOR is not set
// (no-color.org).
bool StdoutIsColourful();

enum class Tone { kPlain, kGood, kBad, kHeading };
// `text` in that tone; unchanged without colours.
std::string Toned(absl::string_view text, Tone tone, bool colourful);

// Text that came from another program, with control characters replaced by '?', so that a session's
// name cannot steer the terminal.
std::string Printable(absl::string_view text);

// Columns as wide as their widest cell, two spaces apart.
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
  // As many cells as there are columns.
  void Add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  // One line for the titles and one for each row, each ended by a newline and preceded by `indent`
  // spaces.
  std::string ToString(size_t indent = 0) const;

 private:
  std::string Line(const std::vector<std::string>& cells, const std::vector<size_t>& widths) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "####----": `part` of `whole`; at least one # for anything that is not 0.
std::string Bar(Bytes part, Bytes whole, size_t width);
// "12.5 %" of `whole`; "0 %" of nothing.
std::string Percent(Bytes part, Bytes whole);
// The two largest units: "3 d 4 h", "12 s", "250 ms".
std::string Age(uint64_t ms);
// "1 region", "3 regions".
std::string Count(uint64_t number, absl::string_view noun);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_TEXT_H_
