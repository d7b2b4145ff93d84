// The output of tenurectl, for people and for programs.
#include "client/ctl/text.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "client/ctl/exit_code.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/table.h"
#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {
namespace {

TEST(Table, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({{"NAME"}, {"SIZE", Table::Align::kRight}});
  table.Add({"a", "1 B"});
  table.Add({"longer", "12.5 KiB"});
  EXPECT_EQ(table.ToString(), "NAME        SIZE\na            1 B\nlonger  12.5 KiB\n");
}

TEST(Text, BarShowsEvenALittle) {
  EXPECT_EQ(Bar(Bytes(0), Bytes(100), 4), "----");
  EXPECT_EQ(Bar(Bytes(1), Bytes(100), 4), "#---");
  EXPECT_EQ(Bar(Bytes(50), Bytes(100), 4), "##--");
  EXPECT_EQ(Bar(Bytes(200), Bytes(100), 4), "####");
  EXPECT_EQ(Bar(Bytes(0), Bytes(0), 4), "----");
}

TEST(Text, AgeHasTheTwoLargestUnits) {
  EXPECT_EQ(Age(0), "0 ms");
  EXPECT_EQ(Age(59'999), "59 s");
  EXPECT_EQ(Age(61'000), "1 min 1 s");
  EXPECT_EQ(Age(3'661'000), "1 h 1 min");
  EXPECT_EQ(Age(90'000'000), "1 d 1 h");
}

TEST(Text, OneThingIsNoMany) {
  EXPECT_EQ(Count(0, "session"), "0 sessions");
  EXPECT_EQ(Count(1, "session"), "1 session");
  EXPECT_EQ(Count(2, "session"), "2 sessions");
}

TEST(Text, NameOfASessionCannotSteerTheTerminal) {
  EXPECT_EQ(Printable("ab\x1b[2Jc\nd\x7f"), "ab?[2Jc?d?");
  EXPECT_EQ(Printable("Jürgen 推理 🚀"), "Jürgen 推理 🚀");
  // U+009B, which a terminal takes for ESC [; marks of direction; a zero width; half of a pair.
  EXPECT_EQ(Printable("a\xc2\x9b"
                      "2Jb"),
            "a?2Jb");
  EXPECT_EQ(Printable("\xe2\x80\xae"
                      "evil\xe2\x81\xa6"),
            "?evil?");
  EXPECT_EQ(Printable("a\xe2\x80\x8b"
                      "b\xef\xbb\xbf"),
            "a?b?");
  EXPECT_EQ(Printable("\xed\xa0\x80"), "???");
  EXPECT_EQ(Printable("a\xff"
                      "b\xe6\x8e"),
            "a?b??");
  EXPECT_EQ(Printable("\xc0\x80"), "??");
}

TEST(Text, WidthCountsColumnsAndNotBytes) {
  EXPECT_EQ(Width("abc"), 3u);
  EXPECT_EQ(Width("Jürgen"), 6u);
  EXPECT_EQ(Width("推理"), 4u);
  EXPECT_EQ(Width("e\xcc\x81"), 1u);
  Table table({{"NAME"}, {"SIZE", Table::Align::kRight}});
  table.Add({"推理", "1 B"});
  table.Add({"ab\tcd", "1 B"});
  EXPECT_EQ(table.ToString(), "NAME   SIZE\n推理    1 B\nab?cd   1 B\n");
}

TEST(Text, NoColoursMeansNoEscapes) {
  EXPECT_EQ(Toned("x", Tone::kBad, /*colourful=*/false), "x");
  EXPECT_EQ(Toned("x", Tone::kBad, /*colourful=*/true), "\x1b[31mx\x1b[0m");
}

TEST(ProtoJson, IntegersStayIntegersAndEveryFieldIsThere) {
  v1::GetStatsResponse stats;
  stats.set_total_bytes(UINT64_MAX);
  stats.add_pools()->set_block_size_bytes(256);
  stats.mutable_totals();
  const nlohmann::ordered_json json = ToJson(stats);
  EXPECT_EQ(json.at("total_bytes").dump(), "18446744073709551615");
  EXPECT_EQ(json.at("driver_free_bytes").dump(), "0");
  EXPECT_EQ(json.at("health").dump(), "\"\"");
  EXPECT_EQ(
      json.at("pools").dump(),
      "[{\"block_size_bytes\":256,\"total_blocks\":0,\"allocated_blocks\":0,\"free_blocks\":0}]");
  EXPECT_EQ(json.at("totals").at("allocations").dump(), "0");
  EXPECT_TRUE(json.at("survival").is_null()) << "an absent message is null, not left out";
  EXPECT_EQ(static_cast<int>(json.size()), v1::GetStatsResponse::descriptor()->field_count());
}

TEST(ProtoJson, IdsAreTextsBecauseTheyExceedWhatADoubleHolds) {
  v1::Segment segment;
  segment.set_owner_uid(1000);
  segment.add_attached_session_ids(UINT64_MAX);
  segment.set_loading_session_id((uint64_t{1} << 53) + 1);
  const nlohmann::ordered_json json = ToJson(segment);
  EXPECT_EQ(json.at("attached_session_ids").dump(), "[\"18446744073709551615\"]");
  EXPECT_EQ(json.at("loading_session_id").dump(), "\"9007199254740993\"");
  EXPECT_EQ(json.at("owner_uid").dump(), "1000");
}

TEST(ProtoJson, TheTextOfAnyNameIsAsciiAndParses) {
  v1::Session session;
  session.set_name("a\xff\xc2\x9b");
  const std::string text = TextOf(ToJson(session));
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || c >= ' '; }));
  EXPECT_TRUE(nlohmann::json::accept(text));
}

TEST(ExitCodes, AreThoseOfTheContract) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus(), Stage::kCalling), 0);
  EXPECT_EQ(ExitCodeOf(absl::InternalError(""), Stage::kCalling), 1);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError(""), Stage::kCalling), 2);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError(""), Stage::kConnecting), 3);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError(""), Stage::kConnecting), 4);
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError(""), Stage::kCalling), 4);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError(""), Stage::kCalling), 5);
  EXPECT_EQ(ExitCodeOf(absl::PermissionDeniedError(""), Stage::kConnecting), 6);
}

}  // namespace
}  // namespace tenure::ctl
