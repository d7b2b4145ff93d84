// Segments with known contents, for tests.
#ifndef TESTS_INTEGRATION_SEGMENT_FIXTURE_H_
#define TESTS_INTEGRATION_SEGMENT_FIXTURE_H_

#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "client/client.h"
#include "client/segment.h"
#include "client/weights/digest.h"
#include "common/bytes.h"

namespace tenure::testing {

inline std::vector<char> Pattern(Bytes size, unsigned seed) {
  std::vector<char> bytes(size.value());
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(seed + i * 31 % 251);
  return bytes;
}

// One block for each size, filled with a pattern, and the right digest.
inline absl::StatusOr<SegmentContents> MakeContents(Client& client, const std::vector<Bytes>& sizes,
                                                    MemoryKind kind = MemoryKind::kVmmFd,
                                                    unsigned seed = 1) {
  SegmentContents contents;
  std::vector<std::vector<char>> bytes;
  for (const Bytes size : sizes) {
    absl::StatusOr<DeviceBuffer> block =
        client.Allocate(size, {.placement = Placement::kDirect, .memory_kind = kind});
    if (!block.ok()) return block.status();
    bytes.push_back(Pattern(size, seed++));
    const absl::Status copied = block->CopyFromHost(bytes.back().data(), size);
    if (!copied.ok()) return copied;
    contents.blocks.push_back(*std::move(block));
  }
  contents.digest = *DigestOf(sizes, [&](const DigestPiece& piece, char* to) {
    std::memcpy(to, bytes[piece.block].data() + piece.offset.value(), piece.size.value());
    return absl::OkStatus();
  });
  return contents;
}

inline absl::StatusOr<Segment> PublishPattern(Client& client, const std::string& name,
                                              const std::vector<Bytes>& sizes,
                                              MemoryKind kind = MemoryKind::kVmmFd) {
  absl::StatusOr<SegmentContents> contents = MakeContents(client, sizes, kind);
  if (!contents.ok()) return contents.status();
  return client.Publish(name, *std::move(contents));
}

// A safetensors file of `count` F32 tensors "layer.0", "layer.1", ... of odd sizes.
inline void WriteSafetensors(const std::string& path, int count, uint64_t elements) {
  std::string header = "{";
  uint64_t end = 0;
  for (int i = 0; i < count; ++i) {
    const uint64_t begin = end;
    const uint64_t length = elements + static_cast<uint64_t>(i);
    end += 4 * length;
    absl::StrAppend(&header, i == 0 ? "" : ",", "\"layer.", i, "\":{\"dtype\":\"F32\",\"shape\":[",
                    length, "],\"data_offsets\":[", begin, ",", end, "]}");
  }
  header += "}";
  std::ofstream file(path, std::ios::binary);
  const uint64_t length = header.size();
  for (int i = 0; i < 8; ++i) file.put(static_cast<char>(length >> 8 * i));
  file << header;
  const std::vector<char> data = Pattern(Bytes(end), 9);
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
  file.close();
  EXPECT_TRUE(file.good());
}

}  // namespace tenure::testing

#endif  // TESTS_INTEGRATION_SEGMENT_FIXTURE_H_
