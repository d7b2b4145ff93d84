#include "common/bytes.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace tenure {
namespace {

constexpr std::array<absl::string_view, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

absl::Status Malformed(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "'", text,
      "' is not a size; write bytes as 4096, 512M, 1.5GiB or, where a whole is known, 80%"));
}

// The power of two that a unit stands for: "" and "B" are 0, "k", "KB" and "KiB" are 10.
std::optional<int> UnitShift(absl::string_view unit) {
  if (unit.empty() || absl::AsciiStrToLower(unit) == "b") return 0;
  const std::string lower = absl::AsciiStrToLower(unit);
  const absl::string_view rest = absl::string_view(lower).substr(1);
  if (!rest.empty() && rest != "b" && rest != "ib") return std::nullopt;
  const size_t place = absl::string_view("kmgtpe").find(lower[0]);
  if (place == absl::string_view::npos) return std::nullopt;
  return static_cast<int>(place + 1) * 10;
}

}  // namespace

absl::StatusOr<Bytes> ParseBytes(absl::string_view text, std::optional<Bytes> whole) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(text);
  const size_t digits = std::min(trimmed.find_first_not_of("0123456789."), trimmed.size());
  const absl::string_view number = trimmed.substr(0, digits);
  const absl::string_view unit = absl::StripAsciiWhitespace(trimmed.substr(digits));
  if (unit != "%") {
    const std::optional<int> shift = UnitShift(unit);
    if (!shift) return Malformed(text);
    uint64_t exact = 0;
    if (absl::SimpleAtoi(number, &exact)) {
      if (exact > (std::numeric_limits<uint64_t>::max() >> *shift)) return Malformed(text);
      return Bytes(exact << *shift);
    }
    double value = 0;
    if (!absl::SimpleAtod(number, &value)) return Malformed(text);
    const double bytes = std::ldexp(value, *shift);
    // Below 2^63 the conversion to an integer is defined. Larger sizes are not typed as fractions.
    if (!(bytes >= 0 && bytes < 9.2e18) || bytes != std::floor(bytes)) return Malformed(text);
    return Bytes(static_cast<uint64_t>(bytes));
  }
  double percent = 0;
  if (!whole || !absl::SimpleAtod(number, &percent) || !(percent >= 0 && percent <= 100)) {
    return Malformed(text);
  }
  if (percent == 100) return *whole;
  // A long double holds each 64-bit size exactly. The result is less than the whole, so it fits.
  return Bytes(static_cast<uint64_t>(static_cast<long double>(whole->value()) * percent / 100));
}

std::string FormatBytes(Bytes size) {
  size_t unit = 0;
  double value = static_cast<double>(size.value());
  // From here on two decimals would round up to 1024 of the smaller unit.
  constexpr double kNextUnit = 1023.995;
  while (value >= kNextUnit && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::string digits = absl::StrFormat("%.2f", value);
  digits.erase(digits.find_last_not_of('0') + 1);
  if (digits.back() == '.') digits.pop_back();
  return absl::StrCat(digits, " ", kUnits[unit]);
}

}  // namespace tenure
