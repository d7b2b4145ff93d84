// The ids of sessions, allocations and regions, which travel over the wire.
#ifndef SERVER_IDENTITY_IDS_H_
#define SERVER_IDENTITY_IDS_H_

#include <cstdint>

namespace tenure::server {

// An id names a slot in a table of the daemon, the generation of the value in that slot, and the
// daemon's epoch. An id of a value that is gone, or of an earlier daemon, therefore never names a
// new value. An id has no power: the rights of a caller follow from its process, which the kernel
// names.

// Counts the starts of the daemon; never 0.
using Epoch = uint16_t;

using SessionId = uint64_t;
using AllocationId = uint64_t;
using RegionId = uint64_t;

// The layout of an id, from the high bits: epoch (16), generation (28), slot (20).
inline constexpr int kSlotBits = 20;
inline constexpr int kGenerationBits = 28;
inline constexpr uint64_t kMaxSlots = uint64_t{1} << kSlotBits;

constexpr Epoch EpochOf(uint64_t id) {
  return static_cast<Epoch>(id >> (kSlotBits + kGenerationBits));
}

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_IDS_H_
