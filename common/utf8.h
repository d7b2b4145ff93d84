// Text in UTF-8 from another program.
#ifndef COMMON_UTF8_H_
#define COMMON_UTF8_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace tenure {

// The first character of a text that is not empty, and its length in bytes. A byte that does not
// belong to well-formed UTF-8 is kMalformedUtf8, of length 1.
inline constexpr char32_t kMalformedUtf8 = 0xffffffff;
std::pair<char32_t, size_t> NextCharacter(absl::string_view text);

// Replaces control characters, invisible characters that reorder or hide others, and bytes that are
// no UTF-8 by '?'. For text from another program, such as a session's name: it could otherwise send
// escape sequences to the terminal, or show another name than it has.
std::string Printable(absl::string_view text);

}  // namespace tenure

#endif  // COMMON_UTF8_H_
