#include "common/bytes.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tenure {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(Bytes, SumsAndDifferencesAreExactUpToTheLastByte) {
  EXPECT_EQ(Bytes(kMax - 1) + Bytes(1), Bytes(kMax));
  EXPECT_EQ(Bytes(kMax) - Bytes(kMax), Bytes(0));
  Bytes total;
  total += MiB(3);
  total -= KiB(1);
  EXPECT_EQ(total, Bytes(3 * 1048576 - 1024));
  EXPECT_LT(KiB(1023), MiB(1));
  EXPECT_EQ(GiB(1), MiB(1024));
}

TEST(BytesDeathTest, ASumOrDifferenceThatWouldWrapAborts) {
  EXPECT_DEATH(Bytes(kMax) + Bytes(1), "max");
  EXPECT_DEATH(Bytes(1) - Bytes(2), "value_ >= other");
  Bytes none;
  EXPECT_DEATH(none -= Bytes(1), "value_ >= other");
}

struct Rounding {
  uint64_t size;
  uint64_t unit;
  std::optional<uint64_t> rounded;
};

TEST(RoundUp, GivesTheNextMultipleOrNothing) {
  const Rounding table[] = {
      {0, 1, 0},
      {0, 256, 0},
      {1, 256, 256},
      {255, 256, 256},
      {256, 256, 256},
      {257, 256, 512},
      {7, 1, 7},
      {kMax, 1, kMax},
      {kMax, 2, std::nullopt},
      {kMax - 1, 2, kMax - 1},
      {kMax - 255, 256, kMax - 255},
      {kMax - 254, 256, std::nullopt},
      {1, uint64_t{1} << 63, uint64_t{1} << 63},
      {(uint64_t{1} << 63) + 1, uint64_t{1} << 63, std::nullopt},
  };
  for (const Rounding& row : table) {
    const std::optional<Bytes> rounded = RoundUp(Bytes(row.size), Bytes(row.unit));
    ASSERT_EQ(rounded.has_value(), row.rounded.has_value()) << row.size << " to " << row.unit;
    EXPECT_EQ(rounded.value_or(Bytes(0)).value(), row.rounded.value_or(0)) << row.size;
  }
}

TEST(RoundUpDeathTest, AUnitThatIsNoPowerOfTwoAborts) {
  EXPECT_DEATH(RoundUp(Bytes(1), Bytes(0)), "IsPowerOfTwo");
  EXPECT_DEATH(RoundUp(Bytes(1), Bytes(3)), "IsPowerOfTwo");
}

struct Size {
  const char* text;
  uint64_t bytes;
};

TEST(ParseBytes, ReadsWhatPeopleWrite) {
  const Size table[] = {
      {"0", 0},
      {"4096", 4096},
      {"4096B", 4096},
      {"4096 b", 4096},
      {"1K", 1024},
      {"1k", 1024},
      {"1KB", 1024},
      {"1KiB", 1024},
      {"1kib", 1024},
      {" 512M ", 512 << 20},
      {"512 MiB", 512 << 20},
      {"\t8GiB\n", uint64_t{8} << 30},
      {"1.5GiB", uint64_t{3} << 29},
      {"0.5K", 512},
      {".5K", 512},
      {"1.5 KiB", 1536},
      {"0.001953125M", 2048},
      {"2T", uint64_t{2} << 40},
      {"3PiB", uint64_t{3} << 50},
      {"15E", uint64_t{15} << 60},
      {"007", 7},
      {"18446744073709551615", kMax},
      {"17179869183G", uint64_t{17179869183} << 30},
      {"9007199254740993", 9007199254740993},  // 2^53 + 1, which no double holds
      {"9007199254740993K", uint64_t{9007199254740993} << 10},
  };
  for (const Size& row : table) {
    const absl::StatusOr<Bytes> parsed = ParseBytes(row.text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->value(), row.bytes) << "'" << row.text << "'";
  }
}

TEST(ParseBytes, RefusesWhatIsNoSizeAndSaysSo) {
  const char* const table[] = {
      "",
      " ",
      "x",
      "-1",
      "+1",
      "1.5",
      "0.3K",
      "1.0000001K",
      "K",
      "GiB",
      "1 2",
      "1.2.3M",
      "1,5G",
      "1Q",
      "1KK",
      "1iB",
      "1Ki",
      "1KBB",
      "0x10",
      "1e3",
      "nan",
      "inf",
      "1e400",
      ".",
      ".K",
      "1G 1M",
      "1 G B",
      "%",
      "1%%",
      "４K",
      "1µ",
      "16E",
      "1/2",
      "16384P",
      "18446744073709551616",
      "17179869184G",
      "99999999999999999999999999999G",
      "16.5E",
  };
  for (const char* const text : table) {
    const absl::StatusOr<Bytes> parsed = ParseBytes(text);
    ASSERT_FALSE(parsed.ok()) << "'" << text << "' was read as " << parsed->value();
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(parsed.status().message().find(absl::StrCat("'", text, "'")), std::string::npos);
  }
}

TEST(ParseBytes, PercentagesAreOfTheWhole) {
  EXPECT_EQ(*ParseBytes("80%", GiB(10)), GiB(8));
  EXPECT_EQ(*ParseBytes(" 80 % ", GiB(10)), GiB(8));
  EXPECT_EQ(*ParseBytes("100%", GiB(141)), GiB(141));
  EXPECT_EQ(*ParseBytes("100%", Bytes(std::numeric_limits<uint64_t>::max())),
            Bytes(std::numeric_limits<uint64_t>::max()));
  EXPECT_EQ(*ParseBytes("0%", GiB(141)), Bytes(0));
  EXPECT_EQ(*ParseBytes("12.5%", KiB(1)), Bytes(128));
  EXPECT_EQ(*ParseBytes("33%", Bytes(100)), Bytes(33));
  EXPECT_EQ(*ParseBytes("50%", Bytes(3)), Bytes(1)) << "never more than asked for";
  EXPECT_EQ(*ParseBytes("2G", GiB(10)), GiB(2)) << "a whole forbids nothing";
}

TEST(ParseBytes, PercentagesNeedAWholeAndStayWithinIt) {
  EXPECT_FALSE(ParseBytes("80%").ok());
  for (const char* const text : {"101%", "100.1%", "-1%", "%", "x%", "80%%", "80%B", "nan%"}) {
    EXPECT_EQ(ParseBytes(text, GiB(1)).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(FormatBytes, PrintsTheLargestUnitWithAtMostTwoDecimals) {
  struct Text {
    uint64_t bytes;
    const char* text;
  };
  const Text table[] = {
      {0, "0 B"},
      {1, "1 B"},
      {512, "512 B"},
      {1023, "1023 B"},
      {1024, "1 KiB"},
      {1025, "1 KiB"},
      {1536, "1.5 KiB"},
      {1100, "1.07 KiB"},
      {10240, "10 KiB"},
      {102400, "100 KiB"},
      {1048575, "1 MiB"},
      {1048576, "1 MiB"},
      {2 << 20, "2 MiB"},
      {uint64_t{3} << 29, "1.5 GiB"},
      {uint64_t{141} << 30, "141 GiB"},
      {uint64_t{1} << 40, "1 TiB"},
      {uint64_t{1} << 50, "1 PiB"},
      {uint64_t{1} << 60, "1 EiB"},
      {kMax, "16 EiB"},
  };
  for (const Text& row : table) EXPECT_EQ(FormatBytes(Bytes(row.bytes)), row.text) << row.bytes;
}

TEST(FormatBytes, WhatIsPrintedIsReadBackToWithinHalfOfItsLastDigit) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    const uint64_t bytes = random() >> (4 + random() % 60);
    const std::string text = FormatBytes(Bytes(bytes));
    const absl::StatusOr<Bytes> parsed = ParseBytes(text);
    // A fraction such as 1.07 KiB is not a whole number of bytes.
    if (!parsed.ok()) {
      ASSERT_NE(text.find('.'), std::string::npos) << text;
      continue;
    }
    const uint64_t difference =
        parsed->value() > bytes ? parsed->value() - bytes : bytes - parsed->value();
    ASSERT_LE(difference * 200, bytes + 1) << text << " for " << bytes;
  }
}

}  // namespace
}  // namespace tenure
