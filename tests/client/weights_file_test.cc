// What can be opened as weights, and what is refused before a byte is loaded.
#include "client/weights_file.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/limits.h"

namespace tenure {
namespace {

class WeightsFileTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
    return folder_ + "/" + name;
  }

  // A file of tensors of one byte each, with this description in front of the offsets.
  std::string WriteTensors(const std::string& name, const std::vector<std::string>& tensors,
                           const std::string& description = R"("dtype":"U8","shape":[1])") {
    std::string header = "{";
    for (size_t i = 0; i < tensors.size(); ++i) {
      absl::StrAppend(&header, i == 0 ? "" : ",", "\"", tensors[i], "\":{", description,
                      ",\"data_offsets\":[", i, ",", i + 1, "]}");
    }
    header += "}";
    std::string prefix;
    for (size_t i = 0; i < 8; ++i) prefix += static_cast<char>(header.size() >> 8 * i);
    return Write(name, absl::StrCat(prefix, header, std::string(tensors.size(), 'x')));
  }

  static std::string Index(const std::string& map) {
    return absl::StrCat(R"({"metadata":{"total_size":3},"weight_map":)", map, "}");
  }

  // The words of the refusal, which is INVALID_ARGUMENT and names the file.
  static std::string Refusal(const std::string& path, const std::string& file) {
    const absl::Status status = WeightsFile::Open(path).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), file)) << status;
    return std::string(status.message());
  }

  std::string folder_ = "/tmp/tenure-weights-XXXXXX";
};

TEST_F(WeightsFileTest, WhatIsNoRegularFileIsRefusedAtOnce) {
  for (const char* name : {"fifo", "fifo.safetensors"}) {
    const std::string path = folder_ + "/" + name;
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    // It would wait for ever for a process that writes.
    EXPECT_TRUE(absl::StrContains(Refusal(path, path), "no regular file"));
  }
  EXPECT_TRUE(absl::StrContains(Refusal(folder_, folder_), "name a file in it"));
  EXPECT_TRUE(absl::StrContains(Refusal(Write("none", ""), "/none"), "empty"));
  EXPECT_TRUE(absl::StrContains(Refusal(Write("short.safetensors", "1234567"), "/short"),
                                "it has 7 bytes"));
}

TEST_F(WeightsFileTest, TheSuffixCountsInAnyCase) {
  const auto file = WeightsFile::Open(WriteTensors("MODEL.SAFETENSORS", {"a"}));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors().size(), 1u);
}

TEST_F(WeightsFileTest, AnIndexNamesTheTensorsOfAllFilesBesideIt) {
  WriteTensors("m-2.safetensors", {"b", "tied"});
  WriteTensors("m-1.safetensors", {"a", "tied"});
  // A tensor that stands in both files is taken from the one that the index names.
  const auto file = WeightsFile::Open(
      Write("m.safetensors.index.json",
            Index(R"({"a":"m-1.safetensors","b":"m-2.safetensors","tied":"m-2.safetensors"})")));
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<std::string> names;
  for (const SegmentTensor& tensor : file->tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b", "tied"}));
  EXPECT_EQ(file->blocks(), (std::vector<Bytes>{Bytes(513)}));
}

TEST_F(WeightsFileTest, AnIndexThatDoesNotFitItsFilesIsRefused) {
  const std::string shard = WriteTensors("m.safetensors", {"a"});
  const auto write = [this](const std::string& text) {
    return Write("m.safetensors.index.json", text);
  };
  Refusal(write(Index(R"({"a":"m.safetensors","b":"m.safetensors"})")), shard);
  EXPECT_TRUE(
      absl::IsNotFound(WeightsFile::Open(write(Index(R"({"a":"other.safetensors"})"))).status()));
  for (const char* text : {"", "[]", "{}", "{\"weight_map\":[]}", "{\"weight_map\":{}}"})
    Refusal(write(text), "index.json");
  // The index may have come over the network: it must not choose which files are read.
  std::filesystem::create_directory(folder_ + "/deeper");
  for (const char* name : {"/etc/passwd", "../m.safetensors", "deeper/m.safetensors", "passwd", ""})
    Refusal(write(Index(absl::StrCat("{\"a\":\"", name, "\"}"))), "'a'");
}

TEST_F(WeightsFileTest, WhatASegmentCannotHoldIsRefusedWithItsName) {
  const std::string deep = R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1])";
  EXPECT_TRUE(absl::StrContains(Refusal(WriteTensors("d.safetensors", {"t"}, deep), "/d.safet"),
                                "'t' has 9 dimensions"));
  const std::string long_name(kMaxTensorName + 1, 'n');
  EXPECT_TRUE(absl::StrContains(Refusal(WriteTensors("n.safetensors", {long_name}), "/n.safet"),
                                "a name of 257 bytes"));
  const std::string dtype = R"("dtype":"A_DTYPE_TO_COME_1","shape":[1])";
  EXPECT_TRUE(absl::StrContains(Refusal(WriteTensors("t.safetensors", {"t"}, dtype), "/t.safet"),
                                "a dtype of 17 bytes"));
  std::vector<std::string> many;
  for (size_t i = 0; i <= kMaxSegmentTensors; ++i) many.push_back(absl::StrCat("t", i));
  EXPECT_TRUE(absl::StrContains(Refusal(WriteTensors("m.safetensors", many), "/m.safet"),
                                "at most 8192 tensors"));
  many.pop_back();
  EXPECT_TRUE(WeightsFile::Open(WriteTensors("m.safetensors", many)).ok());
}

}  // namespace
}  // namespace tenure
