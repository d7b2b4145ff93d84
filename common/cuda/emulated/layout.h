// The memory that the processes with one emulated device share.
#ifndef COMMON_CUDA_EMULATED_LAYOUT_H_
#define COMMON_CUDA_EMULATED_LAYOUT_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "common/bytes.h"

namespace tenure::cuda::emulated {

// It is the file "card-3" in the device's folder, mapped by each process. A change to these structs
// needs another number in that name.
//
// Invariants, true between any two instructions of a process that is killed:
//   1. The fields of a slot are written before its state or pid, which makes them count.
//   2. No sum is stored. The memory in use is always the sum over the slots, so no half-done change
//      leaves a wrong total behind.
//   3. It is never stored whether a process is alive, or whether a descriptor of memory is open.
//      The kernel is asked, through locks that end with their last holder.

// The unit in which the driver allocates device memory.
inline constexpr Bytes kPage = MiB(2);
inline constexpr Bytes kSmallestCard = MiB(16);
inline constexpr Bytes kLargestCard = GiB(1024);
// A context takes 1/256 of the device (520 MiB of an H200), so there are at most so many at once.
inline constexpr uint64_t kContextsPerCard = 256;

// One process with a context. It is alive while it has its life lock, see LifeLocks.
struct ProcessSlot {
  std::atomic<int32_t> pid;  // 0: the slot is empty
  uint64_t start_time;       // in clock ticks since boot; a pid is not used again with the same one
};

enum class BackingState : uint32_t {
  kEmpty = 0,
  kLive,   // allocated: its owner can export handles of it
  kFreed,  // freed by its owner, or its owner is dead; in use while a process has imported it or
           // has a descriptor of it open
};

// How other processes import the memory, and whether that keeps it.
enum class BackingKind : uint32_t {
  kAllocated = 0,  // cuMemAlloc: a handle, which keeps nothing
  kCreated,        // cuMemCreate: a file descriptor of the memory's file, which carries a lock
};

// One piece of device memory: the file "memory-ID" in the device's folder.
struct BackingSlot {
  std::atomic<BackingState> state;
  uint32_t owner;  // index of a ProcessSlot; counts in state kLive only
  uint64_t id;     // never used twice
  uint64_t size;   // in bytes; a multiple of kPage
  BackingKind kind;
  uint64_t inode;  // of the file, once there is one; kCreated only
};

// One process's import of one backing.
struct ImportSlot {
  std::atomic<uint32_t> importer;  // index of a ProcessSlot, plus 1; 0: the slot is empty
  uint32_t backing;                // index of a BackingSlot, which is not emptied meanwhile
};
inline constexpr uint64_t kImportsPerCard = 1 << 18;

struct CardLayout {
  std::atomic<uint64_t> magic;  // kCardMagic once the card has a capacity
  uint64_t capacity;            // in bytes
  std::atomic<uint64_t> next_id;
  std::atomic<uint64_t> backings_end;  // slots from here on are empty
  std::atomic<uint64_t> imports_end;   // likewise
  std::array<ProcessSlot, kContextsPerCard> processes;
  std::array<BackingSlot, kLargestCard.value() / kPage.value()> backings;
  std::array<ImportSlot, kImportsPerCard> imports;
};

inline constexpr uint64_t kCardMagic = 0x33647261632d6574;  // "te-card3"
static_assert(std::atomic<uint64_t>::is_always_lock_free);

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_LAYOUT_H_
