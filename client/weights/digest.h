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

// Every block is cut into pieces of this size, the last of a block being what is left.
inline constexpr Bytes kDigestPiece = MiB(16);
inline constexpr size_t kDigestBytes = 32;

struct DigestPiece {
  uint32_t block = 0;
  Bytes offset;  // from the block's beginning
  Bytes size;    // at most kDigestPiece
};

// The SHA-256 digest of the SHA-256 digests of all pieces of all blocks, in order: 32 bytes. A tree
// and not one long hash, so that as many threads can work on it as the machine has.
//
// `read` is called once for each piece, from several threads at once, and puts the piece's bytes at
// `to`, which is memory of this process's own: what it does with them there is what was digested.
// Errors: the first that `read` met.
TENURE_EXPORT absl::StatusOr<std::string> DigestOf(
    absl::Span<const Bytes> blocks,
    absl::FunctionRef<absl::Status(const DigestPiece& piece, char* to)> read);

// As people compare it: 64 lower-case hexadecimal digits.
TENURE_EXPORT std::string DigestInHex(const std::string& digest);

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_DIGEST_H_
