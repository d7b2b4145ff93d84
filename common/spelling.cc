#include "common/spelling.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tenure {
namespace {

// How many changes of one letter lead from `a` to `b`; two neighbours that change places are one.
size_t Distance(absl::string_view a, absl::string_view b) {
  // The distances of the first i, i - 1 and i - 2 letters of `a` from the first j of `b`.
  std::vector<size_t> now(b.size() + 1);
  std::vector<size_t> before;
  std::vector<size_t> two_before;
  for (size_t j = 0; j <= b.size(); ++j) now[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    two_before = std::exchange(before, now);
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = a[i - 1] == b[j - 1];
      now[j] = std::min({before[j] + 1, now[j - 1] + 1, before[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        now[j] = std::min(now[j], two_before[j - 2] + 1);
    }
  }
  return now[b.size()];
}

}  // namespace

std::string NearestWord(absl::string_view word, const std::vector<std::string>& known) {
  // A longer word than any known one is near none of them, and comparing costs its square.
  if (word.size() > 64) return "";
  std::string nearest;
  size_t least = word.size() / 3 + 1;
  for (const std::string& one : known) {
    const size_t distance = Distance(word, one);
    if (distance >= least) continue;
    least = distance;
    nearest = one;
  }
  return nearest;
}

std::string ReadDecimal(std::string& text) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos)
    return absl::StrCat("'", text, "' is not a number of decimal digits");
  text.erase(0, std::min(text.find_first_not_of('0'), text.size() - 1));
  return "";
}

}  // namespace tenure
