// Ids that travel. An id names a slot in a table of the daemon, the generation of what stands in it
// and the daemon's epoch, so that an id of something gone, or of an earlier life of the daemon,
// never names something new. An id has no power: what a caller may do follows from its session's
// process, which the kernel names.
#ifndef SERVER_IDENTITY_IDS_H_
#define SERVER_IDENTITY_IDS_H_

#include <cstdint>

namespace tenure::server {

// One life of the daemon; never 0.
using Epoch = uint16_t;

using SessionId = uint64_t;
using AllocationId = uint64_t;
using RegionId = uint64_t;

// How an id is laid out, from the high bits: epoch, generation, slot.
inline constexpr int kSlotBits = 20;
inline constexpr int kGenerationBits = 28;
inline constexpr uint64_t kMaxSlots = uint64_t{1} << kSlotBits;

constexpr Epoch EpochOf(uint64_t id) {
  return static_cast<Epoch>(id >> (kSlotBits + kGenerationBits));
}

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_IDS_H_
