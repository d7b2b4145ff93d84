// The digest of a segment's contents.
#ifndef CLIENT_WEIGHTS_DIGEST_H_
#define CLIENT_WEIGHTS_DIGEST_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "client/export.h"
#include "common/bytes.h"

namespace tenure {

// Every block is divided into pieces of this size. The last piece of a block is the rest.
inline constexpr Bytes kDigestPiece = MiB(16);

struct DigestPiece {
  uint32_t block = 0;
  Bytes offset;  // from the block's beginning
  Bytes size;    // at most kDigestPiece
};

// Computes the SHA-256 digest of the SHA-256 digests of all pieces of all blocks, in order: 32
// bytes (kDigestBytes). `blocks` are the sizes of the blocks. One hash over all bytes could use one
// thread only; the pieces are hashed by all of the machine's.
//
// `read` is called once for each piece, by several threads at the same time. It has to write the
// piece's bytes to `to`, a buffer of this process. If it also copies them on from there, as
// WeightsFile::Load does, the copy is what was digested, even if the source changes meanwhile.
// Errors: the first error of `read`. Then the remaining pieces are not read.
TENURE_EXPORT absl::StatusOr<std::string> DigestOf(
    absl::Span<const Bytes> blocks,
    absl::FunctionRef<absl::Status(const DigestPiece& piece, char* to)> read);

// 64 lower-case hexadecimal digits.
TENURE_EXPORT std::string DigestInHex(const std::string& digest);

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_DIGEST_H_
