#include "client/ctl/replay/trace.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>
#include <stdlib.h>
#include <zlib.h>

namespace tenure::ctl {
namespace {

constexpr char kHeader[] = "# {\"workload\": \"test\"}\n";

class Trace : public ::testing::Test {
 protected:
  Trace() { EXPECT_NE(mkdtemp(folder_.data()), nullptr); }
  ~Trace() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& bytes) const {
    const std::string path = folder_ + "/trace";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::string folder_ = "/tmp/tenure-test-XXXXXX";
};

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  std::string input = text;
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// Reads the whole trace, counts the events, and returns the status at the end.
absl::Status ReadAll(const std::string& path, size_t* events = nullptr) {
  const absl::StatusOr<std::unique_ptr<TraceReader>> reader = TraceReader::Open(path);
  if (!reader.ok()) return reader.status();
  while (true) {
    const absl::StatusOr<std::optional<TraceEvent>> event = (*reader)->Next();
    if (!event.ok()) return event.status();
    if (!*event) return absl::OkStatus();
    if (events != nullptr) ++*events;
  }
}

TEST_F(Trace, EventsComeInOrderWithTheirValues) {
  const auto reader =
      TraceReader::Open(Write(absl::StrCat(kHeader, "a 1 4096 2 0\nf 1 0 0 1500\n")));
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->header().at("workload"), "test");
  const auto allocate = (*reader)->Next();
  ASSERT_TRUE(allocate.ok() && *allocate);
  EXPECT_EQ((*allocate)->kind, TraceEvent::Kind::kAllocate);
  EXPECT_EQ((*allocate)->id, 1u);
  EXPECT_EQ((*allocate)->size, Bytes(4096));
  EXPECT_EQ((*allocate)->stream, 2u);
  const auto free = (*reader)->Next();
  ASSERT_TRUE(free.ok() && *free);
  EXPECT_EQ((*free)->kind, TraceEvent::Kind::kFree);
  EXPECT_EQ((*free)->time, absl::Microseconds(1500));
  const auto end = (*reader)->Next();
  EXPECT_TRUE(end.ok() && !*end);
}

TEST_F(Trace, GzippedOneReadsTheSame) {
  std::string text = kHeader;
  for (int i = 1; i <= 20000; ++i) absl::StrAppend(&text, "a ", i, " ", i * 7, " 0 ", i, "\n");
  size_t plain = 0;
  size_t gzipped = 0;
  EXPECT_EQ(ReadAll(Write(text), &plain), absl::OkStatus());
  EXPECT_EQ(ReadAll(Write(Gzip(text)), &gzipped), absl::OkStatus());
  EXPECT_EQ(plain, 20000u);
  EXPECT_EQ(gzipped, 20000u);
}

TEST_F(Trace, RecordedOneIsValidAndEndsEmpty) {
  const std::string path = TENURE_TEST_DATA "/small.trace.gz";
  const auto reader = TraceReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  uint64_t events = 0;
  int64_t live = 0;
  for (auto event = (*reader)->Next(); event.ok() && *event; event = (*reader)->Next()) {
    live += (*event)->kind == TraceEvent::Kind::kAllocate ? 1 : -1;
    ++events;
  }
  EXPECT_EQ((*reader)->header().at("events"), events);
  EXPECT_EQ(live, 0);
}

TEST_F(Trace, MissingFileIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(TraceReader::Open(folder_ + "/none").status()));
}

TEST_F(Trace, BadHeaderIsRefused) {
  for (const char* header : {"", "a 1 1 0 0\n", "#{}\n", "# [1]\n", "# {\n", "# {}"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ReadAll(Write(header)))) << header;
  }
}

TEST_F(Trace, HostileLinesAreRefusedByNumber) {
  const std::string large = "18446744073709551616";  // 2^64
  const std::vector<std::string> lines = {
      "",
      "a",
      "a 2 1 0",
      "a 2 1 0 0 0",
      "a  2 1 0 0",
      " a 2 1 0 0",
      "a 2 1 0 0 ",
      "b 2 1 0 0",
      "a 2 -1 0 0",
      "a 2 +1 0 0",
      "a 2 0x10 0 0",
      "a 2 1.5 0 0",
      "a 2 0 0 0",
      "a 2 " + large + " 0 0",
      "a " + large + " 1 0 0",
      "a 2 1 4294967296 0",
      "a 2 1 0 " + large,
      "a 2 1 0 99999999999999999",
      absl::StrCat("a 2 ", TraceReader::kMaxSize.value() + 1, " 0 0"),
      "a 1 1 0 0",
      "a 0 1 0 0",
      "f 2 0 0 0",
      "f 1 1 0 0",
      "a 2 1 0 4",
      std::string("a 2 1 0 5\0", 10),
      "a 2 1 0 5\r",
      std::string(TraceReader::kMaxLine + 1, '1'),
      "a 2 1 0 " + std::string(TraceReader::kMaxLine, '0') + "5",
  };
  for (const std::string& line : lines) {
    const absl::Status status =
        ReadAll(Write(absl::StrCat(kHeader, "a 1 1 0 5\n", line, "\na 9 1 0 9\n")));
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << "'" << line << "': " << status;
    EXPECT_NE(status.message().find("line 3:"), absl::string_view::npos) << status;
  }
}

TEST_F(Trace, IdDoesNotComeTwiceEvenAfterItsFree) {
  const absl::Status status =
      ReadAll(Write(absl::StrCat(kHeader, "a 1 1 0 0\nf 1 0 0 0\na 1 1 0 0\n")));
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_TRUE(absl::IsInvalidArgument(
      ReadAll(Write(absl::StrCat(kHeader, "a 1 1 0 0\nf 1 0 0 0\nf 1 0 0 0\n")))));
}

TEST_F(Trace, CutFileIsRefused) {
  std::string text = kHeader;
  for (int i = 1; i <= 5000; ++i)
    absl::StrAppend(&text, "a ", i, " ", i * 7919 % 1000 + 1, " 0 ", i, "\n");
  const std::string packed = Gzip(text);
  for (const size_t cut : {packed.size() - 1, packed.size() - 9, packed.size() / 2, size_t{30}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ReadAll(Write(packed.substr(0, cut))))) << cut;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ReadAll(Write(text.substr(0, text.size() - 1)))));
}

TEST_F(Trace, DamagedGzipIsRefused) {
  std::string text = kHeader;
  for (int i = 1; i <= 5000; ++i)
    absl::StrAppend(&text, "a ", i, " ", i * 7919 % 1000 + 1, " 0 ", i, "\n");
  std::string packed = Gzip(text);
  for (size_t i = packed.size() / 2; i < packed.size() / 2 + 16; ++i) {
    packed[i] = static_cast<char>(packed[i] ^ 0x5a);
  }
  EXPECT_TRUE(absl::IsInvalidArgument(ReadAll(Write(packed))));
}

TEST_F(Trace, LineWithoutEndIsGivenUpAfterItsFirstBytes) {
  // 16 MiB of one character are compressed to 16 KiB, and the file is cut after them. A reader that
  // does not stop at the line limit would report the cut instead.
  const std::string packed = Gzip(kHeader + std::string(16 << 20, '1'));
  const absl::Status status = ReadAll(Write(packed.substr(0, packed.size() - 64)));
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("longer than"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace tenure::ctl
