// Sizes in bytes: a type for them, and functions that read and print it.
#ifndef COMMON_BYTES_H_
#define COMMON_BYTES_H_

#include <compare>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/check.h"
#include "common/export.h"

namespace tenure {

// A number of bytes, or an offset in bytes from a named base. It is a type of its own, so that it
// cannot be mistaken for a count, another offset or a page number. In messages, flags and reports
// it is a plain integer in a field whose name ends in _bytes.
//
// Invariants: sums and differences never wrap: a result that does not fit aborts. Each size from
// outside is checked where it enters (RoundUp), so a wrap elsewhere is a bug of tenure.
// Thread safety: immutable value.
class Bytes {
 public:
  constexpr Bytes() = default;
  constexpr explicit Bytes(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }
  constexpr auto operator<=>(const Bytes&) const = default;

  constexpr Bytes operator+(Bytes other) const {
    TENURE_CHECK(value_ <= std::numeric_limits<uint64_t>::max() - other.value_);
    return Bytes(value_ + other.value_);
  }
  constexpr Bytes operator-(Bytes other) const {
    TENURE_CHECK(value_ >= other.value_);
    return Bytes(value_ - other.value_);
  }
  constexpr Bytes& operator+=(Bytes other) { return *this = *this + other; }
  constexpr Bytes& operator-=(Bytes other) { return *this = *this - other; }

 private:
  uint64_t value_ = 0;
};

constexpr Bytes KiB(uint64_t n) { return Bytes(n << 10); }
constexpr Bytes MiB(uint64_t n) { return Bytes(n << 20); }
constexpr Bytes GiB(uint64_t n) { return Bytes(n << 30); }

constexpr bool IsPowerOfTwo(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

// The smallest multiple of `unit` that is at least `size`; nullopt when that does not fit in 64
// bits. `unit` is a power of two.
constexpr std::optional<Bytes> RoundUp(Bytes size, Bytes unit) {
  TENURE_CHECK(IsPowerOfTwo(unit.value()));
  if (size.value() > std::numeric_limits<uint64_t>::max() - (unit.value() - 1)) return std::nullopt;
  return Bytes((size.value() + unit.value() - 1) & ~(unit.value() - 1));
}

// Reads "4096", "512M", "1.5GiB" or, where `whole` is given, "80%" of it. K, M, G, T with or
// without "iB" or "B" mean powers of 1024, in upper or lower case.
// Errors: INVALID_ARGUMENT: any other text, a fraction of a byte, or a size beyond 64 bits.
TENURE_EXPORT absl::StatusOr<Bytes> ParseBytes(absl::string_view text,
                                               std::optional<Bytes> whole = std::nullopt);

// "0 B", "512 B", "1.5 GiB": at most two decimals, in the largest IEC unit that leaves at least 1.
TENURE_EXPORT std::string FormatBytes(Bytes size);

}  // namespace tenure

#endif  // COMMON_BYTES_H_
