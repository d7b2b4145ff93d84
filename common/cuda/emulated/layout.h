// What the processes of one emulated device share: the file "card-3" in the device's folder, mapped
// by each of them. A change to these structs needs another number in that name.
//
// Invariants, true between any two instructions of a process that is killed:
//   1. A slot's fields are written before its state or pid says that they count.
//   2. Nothing is summed up in advance: the memory in use is always the sum over the slots, so no
//      half-done change can leave a wrong total behind.
//   3. Whether a process is alive, or somebody holds a descriptor of memory, is never stored, only
//      asked of the kernel, through locks that vanish with their last holder.
#ifndef COMMON_CUDA_EMULATED_LAYOUT_H_
#define COMMON_CUDA_EMULATED_LAYOUT_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "common/bytes.h"

namespace tenure::cuda::emulated {

// What the driver gives device memory out in.
inline constexpr Bytes kPage = MiB(2);
inline constexpr Bytes kSmallestCard = MiB(16);
inline constexpr Bytes kLargestCard = GiB(1024);
// A context takes 1/256 of the device (520 MiB of an H200), so more than this cannot exist at once.
inline constexpr uint64_t kContextsPerCard = 256;

// One process with a context. Alive while byte `index` of the file "nvidia-processes" is locked.
// The lock belongs to the open file description, as device files do to NVIDIA's driver: a forked
// child that does not exec keeps its dead parent alive here, with all the parent had on the device.
struct ProcessSlot {
  std::atomic<int32_t> pid;  // 0: the slot is empty
  uint64_t start_time;       // in clock ticks since boot: pids return, pairs do not
};

enum class BackingState : uint32_t {
  kEmpty = 0,
  kLive,   // allocated: its owner can hand out handles of it
  kFreed,  // freed by its owner, or its owner is dead; in use while somebody has imported it or
           // holds a descriptor
};

// What lets other processes import memory, and keeps it.
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
