#include "common/utf8.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace tenure {
namespace {

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
                                                         {kMalformedUtf8, kMalformedUtf8}};
  return std::none_of(std::begin(kSteering), std::end(kSteering),
                      [c](const auto& range) { return c >= range.first && c <= range.second; });
}

}  // namespace

std::pair<char32_t, size_t> NextCharacter(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return {kMalformedUtf8, 1};
  char32_t character = first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {kMalformedUtf8, 1};
    character = character << 6 | (byte(i) & 0x3fu);
  }
  // Longer than needed, a half of a UTF-16 pair, or beyond Unicode.
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = character >= 0xd800 && character <= 0xdfff;
  if (character < kLeast[length] || surrogate || character > 0x10ffff) return {kMalformedUtf8, 1};
  return {character, length};
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

}  // namespace tenure
