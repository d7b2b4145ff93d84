// The records of an emulated device that its processes share: the owner of each piece of memory.
#ifndef COMMON_CUDA_EMULATED_CARD_SLOTS_H_
#define COMMON_CUDA_EMULATED_CARD_SLOTS_H_

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include <cuda.h>

#include "common/cuda/emulated/handle.h"
#include "common/cuda/emulated/layout.h"
#include "common/cuda/emulated/life_locks.h"
#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// A process with a context on a card, and the memory that it uses.
struct CardProcess {
  pid_t pid = 0;
  uint64_t used = 0;
};

// Takes and empties the slots of layout.h, and empties those of dead processes.
//
// No process cleans up after its own death. Instead each process sweeps before it needs an exact
// answer: it asks for the life locks, frees the memory of processes without one, and removes the
// file of each freed piece of memory that no process has imported or holds a descriptor of.
//
// Owns: this process's life lock. Borrows: the layout, and the folder of the card.
// Thread safety: the card's lock is held during each call.
// Errors: the CUresult that the driver's caller gets.
class CardSlots {
 public:
  CardSlots(CardLayout& layout, int folder, UniqueFd probe)
      : layout_(layout), folder_(folder), lives_(folder, std::move(probe)) {}

  // Gives the card a capacity, if it is new or no process uses it.
  void SetUp(uint64_t capacity);

  // Takes a slot for this process, which costs the memory of a context.
  CUresult AddProcess(int32_t pid, uint64_t start_time);
  // Empties it, and frees the process's memory and imports.
  void RemoveProcess();
  // The same at exit(): a forked child that lives on keeps everything, as after SIGKILL.
  void LeaveAtExit();

  // Takes the slot of new memory of this process.
  CUresult AddBacking(uint64_t bytes, BackingKind kind, uint32_t* index);
  // Returns whether the memory is free now. False: another process still has it.
  bool FreeBacking(uint32_t index);
  // Takes a slot for an import of this process, which keeps the memory.
  CUresult AddImport(uint32_t backing, uint32_t* index);
  void RemoveImport(uint32_t index);

  // The memory that a handle names.
  CUresult FindExport(const Handle& handle, uint32_t* index) const;
  // The memory whose file a descriptor has open.
  CUresult FindDescriptor(int descriptor, uint32_t* index) const;
  BackingSlot& backing(uint32_t index) { return layout_.backings[index]; }

  // Frees the memory, the imports and the slots of dead processes.
  void Sweep();
  // Memory in use, over all slots.
  uint64_t Used() const;
  std::vector<CardProcess> Processes() const;

 private:
  bool IsIdle() const;
  uint64_t ContextCost() const { return layout_.capacity / kContextsPerCard; }
  // Sweeps when there is no room without it.
  bool HasRoomFor(uint64_t bytes);
  // Frees the memory and imports of a dead process, and empties its slot.
  void RemoveDead(size_t process);
  bool IsImported(uint64_t backing) const;
  bool HasDescriptorOpen(uint64_t backing) const;
  // Removes the file of freed memory and empties its slot, unless a process still has it.
  void RemoveIfUnused(uint64_t backing);

  CardLayout& layout_;
  const int folder_;
  LifeLocks lives_;
  uint32_t process_ = 0;  // this process's slot, while it has a life lock
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_CARD_SLOTS_H_
