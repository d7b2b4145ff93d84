// The sizes of the wire: how much one request may hold.
#ifndef COMMON_LIMITS_H_
#define COMMON_LIMITS_H_

#include <cstddef>

namespace tenure {

// The daemon refuses more, and the client does not send more. The .proto files name the same
// numbers for clients in other languages; tests/tidy compares them.

// Allocations in one AllocateBatch, frees in one FreeBatch, regions in one ReleaseRegions.
inline constexpr size_t kMaxBatch = 1024;
// The largest request and the largest answer. Either may describe a segment of kMaxSegmentTensors
// tensors, at most 400 bytes each.
inline constexpr size_t kMaxMessageBytes = size_t{4} << 20;

// Keep-alives of one session within one lease time that do not count as requests of its user. A
// client sends three, and one more after each answer that may mean the loss of the session.
inline constexpr size_t kFreeKeepAlives = 16;

// Bytes of a session's name, which is printable UTF-8.
inline constexpr size_t kMaxSessionName = 64;
// Characters of a segment's name.
inline constexpr size_t kMaxSegmentName = 128;
inline constexpr size_t kMaxSegmentBlocks = 64;
inline constexpr size_t kMaxSegmentTensors = 8192;
// Bytes of a tensor's name.
inline constexpr size_t kMaxTensorName = 256;
// Bytes of a tensor's dtype, and the length of its shape.
inline constexpr size_t kMaxTensorDtype = 16;
inline constexpr size_t kMaxTensorDimensions = 8;
// Users that may attach to a segment beside its owner.
inline constexpr size_t kMaxAllowedUids = 64;
// Bytes of a segment's digest: SHA-256.
inline constexpr size_t kDigestBytes = 32;

}  // namespace tenure

#endif  // COMMON_LIMITS_H_
