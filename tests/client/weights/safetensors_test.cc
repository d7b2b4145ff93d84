// Headers that are valid, and headers that do not fit their file.
#include "client/weights/safetensors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

namespace tenure {
namespace {

std::array<unsigned char, 8> Prefix(uint64_t size) {
  std::array<unsigned char, 8> prefix = {};
  for (size_t i = 0; i < prefix.size(); ++i) prefix[i] = static_cast<unsigned char>(size >> 8 * i);
  return prefix;
}

std::string Tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return absl::StrCat(R"({"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":)",
                      offsets, "}");
}

absl::Status Check(const std::string& header, uint64_t data) {
  return ParseSafetensorsHeader(header, Bytes(data)).status();
}

TEST(Safetensors, TensorsComeInTheOrderOfTheirOffsets) {
  const std::string header = absl::StrCat(
      R"({"__metadata__":{"format":"pt"},"a":)", Tensor("F32", "[2,3]", "[4,28]"), R"(,"z":)",
      Tensor("BF16", "[2]", "[0,4]"), R"(,"scalar":)", Tensor("U8", "[]", "[28,29]"), R"(,"none":)",
      Tensor("F32", "[0,7]", "[4,4]"), R"(,"later":)", Tensor("F999", "[3]", "[29,30]"), "}   ");
  const absl::StatusOr<std::vector<FileTensor>> tensors = ParseSafetensorsHeader(header, Bytes(30));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  ASSERT_EQ(tensors->size(), 5u);
  EXPECT_EQ((*tensors)[0].name, "z");
  EXPECT_EQ((*tensors)[1].name, "none");
  EXPECT_EQ((*tensors)[1].size, Bytes(0));
  EXPECT_EQ((*tensors)[2].name, "a");
  EXPECT_EQ((*tensors)[2].dtype, "F32");
  EXPECT_EQ((*tensors)[2].shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ((*tensors)[2].offset, Bytes(4));
  EXPECT_EQ((*tensors)[2].size, Bytes(24));
}

TEST(Safetensors, AHeaderLongerThanTheFileOrThanAnyIsRefused) {
  EXPECT_EQ(*SafetensorsHeaderSize(Prefix(100), Bytes(108)), Bytes(100));
  EXPECT_FALSE(SafetensorsHeaderSize(Prefix(101), Bytes(108)).ok());
  EXPECT_FALSE(SafetensorsHeaderSize(Prefix(0), Bytes(7)).ok());
  EXPECT_FALSE(SafetensorsHeaderSize(Prefix(~uint64_t{0}), Bytes(108)).ok());
  EXPECT_FALSE(SafetensorsHeaderSize(Prefix(~uint64_t{0} - 7), Bytes(~uint64_t{0})).ok());
  EXPECT_FALSE(SafetensorsHeaderSize(Prefix(kMaxSafetensorsHeader.value() + 1), GiB(1)).ok());
}

TEST(Safetensors, WhatIsNoObjectOfTensorsIsRefused) {
  for (const char* header :
       {"", "{", "[]", "null", "7", "\"x\"", "{\"a\":7}", "{\"a\":[]}", "{\"a\":{}}",
        "{\"a\":null}", "{\"\xff\":{}}", R"({"a":{"dtype":"U8","shape":[1]}})",
        R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":"U8","shape":[1],"data_offsets":{"0":1}}})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Check(header, 1))) << header;
  }
  const std::string deep = std::string(1 << 20, '[');
  EXPECT_TRUE(absl::IsInvalidArgument(Check(deep, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(Check(deep + std::string(1 << 20, ']'), 1)));
}

TEST(Safetensors, OffsetsThatLieOutsideOverlapOrLeaveHolesAreRefused) {
  const auto one = [](const std::string& offsets) {
    return absl::StrCat(R"({"a":)", Tensor("F999", "[1]", offsets), "}");
  };
  EXPECT_TRUE(Check(one("[0,8]"), 8).ok());
  for (const char* offsets :
       {"[0,9]", "[8,0]", "[1,8]", "[0,7]", "[]", "[0]", "[0,4,8]", "[-8,0]",
        "[0,18446744073709551615]", "[18446744073709551615,18446744073709551615]",
        "[0,18446744073709551616]", "[0,1e1]"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Check(one(offsets), 8))) << offsets;
  }
  const auto two = [](const std::string& a, const std::string& b) {
    return absl::StrCat(R"({"a":)", Tensor("F999", "[1]", a), R"(,"b":)", Tensor("F999", "[1]", b),
                        "}");
  };
  EXPECT_TRUE(Check(two("[0,4]", "[4,8]"), 8).ok());
  EXPECT_FALSE(Check(two("[0,5]", "[4,8]"), 8).ok());
  EXPECT_FALSE(Check(two("[0,8]", "[0,8]"), 8).ok());
  EXPECT_FALSE(Check(two("[0,3]", "[4,8]"), 8).ok());
}

TEST(Safetensors, ASizeThatIsNotTheShapesIsRefused) {
  const auto shaped = [](const std::string& dtype, const std::string& shape) {
    return absl::StrCat(R"({"a":)", Tensor(dtype, shape, "[0,8]"), "}");
  };
  EXPECT_TRUE(Check(shaped("F32", "[2]"), 8).ok());
  EXPECT_TRUE(Check(shaped("F4", "[16]"), 8).ok());
  EXPECT_FALSE(Check(shaped("F32", "[3]"), 8).ok());
  EXPECT_FALSE(Check(shaped("F32", "[]"), 8).ok());
  EXPECT_FALSE(Check(shaped("F4", "[15]"), 8).ok());
  EXPECT_FALSE(Check(shaped("F32", "[4294967296,4294967296,4294967298]"), 8).ok());
  EXPECT_FALSE(Check(shaped("U8", "[18446744073709551615]"), 8).ok());
  EXPECT_FALSE(Check(shaped("U8", "[0,18446744073709551615,3]"), 8).ok());
}

// Each is one that the format's own parser refuses, or takes, as it does here.
TEST(Safetensors, TheRulesAreThoseOfTheFormatsOwnParser) {
  const std::string tensor = R"("a":{"dtype":"U8","shape":[8],"data_offsets":[0,8])";
  EXPECT_TRUE(Check("{" + tensor + "}}", 8).ok());
  EXPECT_TRUE(Check("{" + tensor + "}}  \n", 8).ok());
  EXPECT_TRUE(Check("{" + tensor + R"(,"note":1,"note":2}})", 8).ok());
  EXPECT_TRUE(Check(R"({"__metadata__":null,)" + tensor + "}}", 8).ok());
  EXPECT_TRUE(Check(R"({"__metadata__":{"a":"1","a":"2"},)" + tensor + "}}", 8).ok());
  for (const std::string& header :
       {"{" + tensor + R"(,"dtype":"I8"}})", "{" + tensor + R"(,"data_offsets":[0,8]}})",
        "{" + tensor + R"(,"shape":[8]}})", "{" + tensor + "}}" + std::string(3, '\0'),
        "\xef\xbb\xbf{" + tensor + "}}", " {" + tensor + "}}",
        R"({"__metadata__":[1],)" + tensor + "}}", R"({"__metadata__":{"a":1},)" + tensor + "}}",
        R"({"__metadata__":{},"__metadata__":{},)" + tensor + "}}"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Check(header, 8))) << header;
  }
}

TEST(Safetensors, TwoTensorsOfOneNameAreRefused) {
  const std::string header = absl::StrCat(R"({"a":)", Tensor("U8", "[8]", "[0,8]"), R"(,"a":)",
                                          Tensor("U8", "[8]", "[0,8]"), "}");
  EXPECT_TRUE(absl::IsInvalidArgument(Check(header, 8)));
}

}  // namespace
}  // namespace tenure
