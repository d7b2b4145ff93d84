#include "common/spelling.h"

#include <gtest/gtest.h>

namespace tenure {
namespace {

TEST(Spelling, ASlipLeadsToTheWordThatWasMeant) {
  const std::vector<std::string> known = {"status", "ps", "segments", "lease-ttl"};
  for (const char* slip : {"statsu", "stauts", "statu", "statuss", "statis", "Status"})
    EXPECT_EQ(NearestWord(slip, known), "status") << slip;
  EXPECT_EQ(NearestWord("lease-tll", known), "lease-ttl");
  EXPECT_EQ(NearestWord("lease_ttl", known), "lease-ttl");
}

TEST(Spelling, AWordThatIsFarFromAllIsNearNone) {
  EXPECT_EQ(NearestWord("bogus", {"status", "ps"}), "");
  EXPECT_EQ(NearestWord("", {"ps"}), "");
  EXPECT_EQ(NearestWord(std::string(1 << 20, 's'), {"status"}), "");
}

TEST(Spelling, LeadingZerosAreNoOctalNumber) {
  for (const auto& [typed, read] :
       {std::pair("010", "10"), std::pair("0", "0"), std::pair("000", "0"), std::pair("7", "7")}) {
    std::string text = typed;
    EXPECT_EQ(ReadDecimal(text), "");
    EXPECT_EQ(text, read);
  }
  for (std::string text : {"", "-1", "+1", "0x10", "1e3", " 1", "1 ", "1.0"})
    EXPECT_NE(ReadDecimal(text), "") << text;
}

}  // namespace
}  // namespace tenure
