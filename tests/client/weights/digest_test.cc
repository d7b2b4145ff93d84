#include "client/weights/digest.h"

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include <gtest/gtest.h>

namespace tenure {
namespace {

char ByteAt(uint32_t block, uint64_t offset) {
  return static_cast<char>(offset * 31 % 251 + block);
}

absl::StatusOr<std::string> DigestOfPattern(const std::vector<Bytes>& blocks) {
  return DigestOf(blocks, [](const DigestPiece& piece, char* to) {
    for (uint64_t i = 0; i < piece.size.value(); ++i) {
      to[i] = ByteAt(piece.block, piece.offset.value() + i);
    }
    return absl::OkStatus();
  });
}

// Computed with Python's hashlib from the definition.
TEST(Digest, IsTheOneThatTheProtocolDefines) {
  const absl::StatusOr<std::string> abc =
      DigestOf(std::vector<Bytes>{Bytes(3)}, [](const DigestPiece&, char* to) {
        std::memcpy(to, "abc", 3);
        return absl::OkStatus();
      });
  ASSERT_TRUE(abc.ok());
  EXPECT_EQ(DigestInHex(*abc), "4f8b42c22dd3729b519ba6f68d2da7cc5b2d606d05daed5ad5128cc03e6c6358");
  const absl::StatusOr<std::string> three = DigestOfPattern({MiB(33), Bytes(5), MiB(16)});
  ASSERT_TRUE(three.ok());
  EXPECT_EQ(DigestInHex(*three),
            "86ba2bd2e879e91016f5553423c406ff0d0834ef7c38a6596b314fbcda3612fc");
}

TEST(Digest, EveryPieceIsReadOnceAndCoversItsBlock) {
  const std::vector<Bytes> blocks = {MiB(16) + Bytes(1), MiB(16), Bytes(1)};
  std::atomic<uint64_t> bytes = 0;
  std::atomic<int> pieces = 0;
  ASSERT_TRUE(DigestOf(blocks, [&](const DigestPiece& piece, char* to) {
                EXPECT_LE(piece.offset + piece.size, blocks[piece.block]);
                std::memset(to, 0, piece.size.value());
                bytes += piece.size.value();
                ++pieces;
                return absl::OkStatus();
              }).ok());
  EXPECT_EQ(bytes, MiB(32).value() + 2);
  EXPECT_EQ(pieces, 4);
}

TEST(Digest, DependsOnWhereABlockEnds) {
  EXPECT_NE(
      *DigestOf(std::vector<Bytes>{Bytes(2)},
                [](const DigestPiece& piece, char* to) {
                  std::memset(to, 'x', piece.size.value());
                  return absl::OkStatus();
                }),
      *DigestOf(std::vector<Bytes>{Bytes(1), Bytes(1)}, [](const DigestPiece& piece, char* to) {
        std::memset(to, 'x', piece.size.value());
        return absl::OkStatus();
      }));
}

TEST(Digest, AFailureToReadIsTheAnswer) {
  const absl::StatusOr<std::string> digest =
      DigestOf(std::vector<Bytes>{GiB(1)}, [](const DigestPiece& piece, char*) {
        return piece.offset == MiB(32) ? absl::DataLossError("gone") : absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsDataLoss(digest.status())) << digest.status();
}

}  // namespace
}  // namespace tenure
