#include "client/ctl/text.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include <locale.h>
#include <wchar.h>

namespace tenure::ctl {
namespace {

// No character: a byte that does not belong to well-formed UTF-8.
constexpr char32_t kMalformed = 0xffffffff;

// The first character of a text that is not empty, and its length in bytes.
std::pair<char32_t, size_t> NextCharacter(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return {kMalformed, 1};
  char32_t character = first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {kMalformed, 1};
    character = character << 6 | (byte(i) & 0x3fu);
  }
  // Longer than needed, a half of a UTF-16 pair, or beyond Unicode.
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = character >= 0xd800 && character <= 0xdfff;
  if (character < kLeast[length] || surrogate || character > 0x10ffff) return {kMalformed, 1};
  return {character, length};
}

// False for control characters, and for the invisible ones that reorder or hide their neighbours.
// Source: Unicode's general categories Cc, Cf, Zl and Zp.
bool IsPrintable(char32_t c) {
  constexpr std::pair<char32_t, char32_t> kSteering[] = {{0x00, 0x1f},
                                                         {0x7f, 0x9f},
                                                         {0xad, 0xad},
                                                         {0x600, 0x605},
                                                         {0x61c, 0x61c},
                                                         {0x6dd, 0x6dd},
                                                         {0x70f, 0x70f},
                                                         {0x890, 0x891},
                                                         {0x8e2, 0x8e2},
                                                         {0x180e, 0x180e},
                                                         {0x200b, 0x200f},
                                                         {0x2028, 0x202e},
                                                         {0x2060, 0x206f},
                                                         {0xfeff, 0xfeff},
                                                         {0xfff9, 0xfffb},
                                                         {0x110bd, 0x110bd},
                                                         {0x110cd, 0x110cd},
                                                         {0x13430, 0x1343f},
                                                         {0x1bca0, 0x1bca3},
                                                         {0x1d173, 0x1d17a},
                                                         {0xe0001, 0xe0001},
                                                         {0xe0020, 0xe007f},
                                                         {kMalformed, kMalformed}};
  return std::none_of(std::begin(kSteering), std::end(kSteering),
                      [c](const auto& range) { return c >= range.first && c <= range.second; });
}

}  // namespace

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
  std::string printable;
  while (!text.empty()) {
    const auto [character, length] = NextCharacter(text);
    if (IsPrintable(character)) {
      absl::StrAppend(&printable, text.substr(0, length));
    } else {
      printable += '?';
    }
    text.remove_prefix(length);
  }
  return printable;
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
