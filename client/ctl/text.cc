#include "client/ctl/text.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tenure::ctl {

bool StdoutIsColourful() {
  // An empty NO_COLOR counts as not set, as no-color.org demands.
  const char* term = std::getenv("TERM");
  const char* no_colour = std::getenv("NO_COLOR");
  return isatty(STDOUT_FILENO) == 1 && term != nullptr && absl::string_view(term) != "dumb" &&
         (no_colour == nullptr || *no_colour == '\0');
}

std::string Toned(absl::string_view text, Tone tone, bool colourful) {
  if (!colourful || tone == Tone::kPlain) return std::string(text);
  const absl::string_view code = tone == Tone::kGood ? "32" : tone == Tone::kBad ? "31" : "1";
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

std::string Printable(absl::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    const unsigned char byte = static_cast<unsigned char>(c);
    // Bytes from 0x80 on are parts of UTF-8 characters and pass.
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  return printable;
}

std::string Bar(Bytes part, Bytes whole, size_t width) {
  if (whole == Bytes(0)) return std::string(width, '-');
  const double share =
      std::min(1.0, static_cast<double>(part.value()) / static_cast<double>(whole.value()));
  size_t filled = static_cast<size_t>(share * static_cast<double>(width) + 0.5);
  // A part that rounds to 0 is shown as one #, so that an empty bar means exactly 0.
  if (part > Bytes(0)) filled = std::max<size_t>(filled, 1);
  return std::string(filled, '#') + std::string(width - filled, '-');
}

std::string Percent(Bytes part, Bytes whole) {
  if (whole == Bytes(0)) return "0 %";
  return absl::StrFormat(
      "%.1f %%", 100 * static_cast<double>(part.value()) / static_cast<double>(whole.value()));
}

std::string Age(uint64_t ms) {
  if (ms < 1000) return absl::StrCat(ms, " ms");
  const uint64_t s = ms / 1000;
  if (s < 60) return absl::StrCat(s, " s");
  if (s < 3600) return absl::StrCat(s / 60, " min ", s % 60, " s");
  if (s < 86400) return absl::StrCat(s / 3600, " h ", s % 3600 / 60, " min");
  return absl::StrCat(s / 86400, " d ", s % 86400 / 3600, " h");
}

std::string Count(uint64_t number, absl::string_view noun) {
  return absl::StrCat(number, " ", noun, number == 1 ? "" : "s");
}

}  // namespace tenure::ctl
