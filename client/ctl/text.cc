#include "client/ctl/text.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include <locale.h>
#include <wchar.h>

#include "common/utf8.h"

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

size_t Width(absl::string_view text) {
  // Of the characters' widths, the C library knows those of every language in any UTF-8 locale.
  static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  const locale_t before = utf8 == nullptr ? nullptr : uselocale(utf8);
  size_t width = 0;
  while (!text.empty()) {
    const auto [character, length] = NextCharacter(text);
    const int columns = utf8 == nullptr ? 1 : wcwidth(static_cast<wchar_t>(character));
    width += static_cast<size_t>(std::max(columns, 0));
    text.remove_prefix(length);
  }
  if (utf8 != nullptr) uselocale(before);
  return width;
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
