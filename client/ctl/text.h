// Words, bars and colours for a terminal.
#ifndef CLIENT_CTL_TEXT_H_
#define CLIENT_CTL_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

#include "common/bytes.h"
#include "common/utf8.h"

namespace tenure::ctl {

// Whether to print colours: stdout is a terminal, TERM is not "dumb", and NO_COLOR is not set.
// Source: no-color.org.
bool StdoutIsColourful();

enum class Tone { kPlain, kGood, kBad, kHeading };
// `text` in that tone; unchanged without colours.
std::string Toned(absl::string_view text, Tone tone, bool colourful);

// How many columns of a terminal a printable text takes.
size_t Width(absl::string_view text);

// "####----": `part` of `whole`, with at least one # when `part` is not 0.
std::string Bar(Bytes part, Bytes whole, size_t width);
// "12.5 %" of `whole`; "0 %" when `whole` is 0.
std::string Percent(Bytes part, Bytes whole);
// The two largest units: "3 d 4 h", "12 s", "250 ms".
std::string Age(uint64_t ms);
// "1 region", "3 regions".
std::string Count(uint64_t number, absl::string_view noun);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_TEXT_H_
