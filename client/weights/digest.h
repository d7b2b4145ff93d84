// The digest of a segment's contents.
#ifndef CLIENT_WEIGHTS_DIGEST_H_
#define CLIENT_WEIGHTS_DIGEST_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/bytes.h"
#include "common/export.h"

namespace tenure {

// Every block is divided into pieces of this size. The last piece of a block is the rest.
inline constexpr Bytes kDigestPiece = MiB(16);

struct DigestPiece {
  uint32_t block = 0;
  Bytes offset;  // from the block's beginning
  Bytes size;    // at most kDigestPiece
};

// Computes the SHA-256 digest of the SHA-256 digests of all pieces of all blocks, in order: 32
// bytes (kDigestBytes). `blocks` has the size of each block. One hash over all bytes could use one
// thread only. The pieces are hashed by as many threads as the machine has, at most 16. Each has a
// buffer of kDigestPiece.
//
// `read` is called once for each piece, by several threads at the same time. It has to write the
// piece's bytes to `to`, a buffer of this process. If it also copies them from there to the device,
// as WeightsFile::Load does, the copied bytes are the digested ones, even if the source changes
// meanwhile.
// Thread safety: thread-safe.
// Errors: the first error of `read`; then the remaining pieces are not read.
TENURE_EXPORT absl::StatusOr<std::string> DigestOf(
    absl::Span<const Bytes> blocks,
    absl::FunctionRef<absl::Status(const DigestPiece& piece, char* to)> read);

// The digest as lower-case hexadecimal digits: 64 of them for 32 bytes.
TENURE_EXPORT std::string DigestInHex(const std::string& digest);

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_DIGEST_H_
