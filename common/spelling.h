// Words and numbers as people type them.
#ifndef COMMON_SPELLING_H_
#define COMMON_SPELLING_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tenure {

// The known word that differs from `word` in the fewest letters; "" if each differs in more than a
// third of them. A doubled, a missing, another letter, and two that changed places count as one.
std::string NearestWord(absl::string_view word, const std::vector<std::string>& known);

// Reads a number of decimal digits and removes its leading zeros, which some parsers (CLI11's among
// them) take for the sign of an octal number. Returns "", or the words that say why `text` is no
// such number: the form that CLI11 wants of a transformation.
std::string ReadDecimal(std::string& text);

}  // namespace tenure

#endif  // COMMON_SPELLING_H_
