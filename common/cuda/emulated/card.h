#ifndef COMMON_CUDA_EMULATED_CARD_H_
#define COMMON_CUDA_EMULATED_CARD_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include <cuda.h>

#include "common/bytes.h"
#include "common/cuda/emulated/handle.h"
#include "common/cuda/emulated/layout.h"
#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// A piece of device memory that is mapped here: this process's own, or imported. Memory of
// cuMemCreate is mapped without access, as that from which its other mappings are made.
struct Mapping {
  uint32_t slot = 0;    // of the backing
  uint32_t import = 0;  // of the import
  uint64_t id = 0;
  char* address = nullptr;
  size_t bytes = 0;
};

// Who uses a card and how much.
struct CardProcess {
  pid_t pid = 0;
  uint64_t used = 0;
};

// One emulated device, shared by all processes that name the same folder: how much memory there is,
// who has which part of it, and which processes have a context.
//
// A process killed at any instruction leaves a card that the next call of any other process puts
// right; see layout.h.
//
// Owns: the mapping of the shared state, and this process's place in it.
// Thread safety: thread-compatible. Between processes each call is one step, taken under a record
// lock: the kernel drops that with the process, and a forked child does not inherit it.
// Errors: the CUresult that the driver's caller gets. CUDA_ERROR_OPERATING_SYSTEM: the folder
// cannot be used; the reason went to stderr.
class Card {
 public:
  // Opens the card in `folder`, and makes it when it is new. `capacity` counts when the card is new
  // or nobody uses it; else it stays as it is.
  static CUresult Open(const std::string& folder, Bytes capacity, std::unique_ptr<Card>* card);

  uint64_t Capacity() const;

  // Takes a place among the processes with a context, which costs memory.
  CUresult Enter();
  // Gives it back, and with it the process's memory and imports, whose mappings stay.
  void Leave();
  // The same at exit(): a forked child that lives on keeps everything, as after SIGKILL.
  void LeaveAtExit();

  // Device memory of `bytes`, a multiple of kPage.
  CUresult Allocate(size_t bytes, Mapping* backing);
  // Frees and unmaps it. False: somebody else has it too, so it stays in use.
  bool Free(const Mapping& backing);

  // Maps what another process exported.
  CUresult Import(const Handle& handle, Mapping* import);
  void EndImport(const Mapping& import);

  // Memory that descriptors name, of `bytes`, a multiple of kPage. Free() ends the creator's part.
  CUresult Create(size_t bytes, Mapping* memory);
  // The memory lives on while the descriptor does, or a copy of it.
  CUresult Export(const Mapping& created, UniqueFd* descriptor);
  // NOT_FOUND: the descriptor is none of this card's.
  CUresult Import(int descriptor, Mapping* import);

  // Memory in use, over all processes and exact at this moment.
  uint64_t Used();
  std::vector<CardProcess> Processes();

  // How handles name this process.
  int32_t pid() const { return pid_; }
  uint64_t start_time() const { return start_time_; }

 private:
  class Lock;

  Card(UniqueFd folder, UniqueFd state, UniqueFd probe, CardLayout* layout);

  CUresult SetUp(Bytes capacity);
  bool IsIdle() const;
  uint64_t ContextCost() const;
  uint64_t Sum() const;
  bool HasRoomFor(uint64_t bytes);

  // Puts right what dead processes left behind.
  void Sweep();
  bool IsAlive(size_t process) const;
  void Bury(size_t process);
  bool IsImported(uint64_t backing) const;
  bool IsHeld(uint64_t backing) const;
  // Empties the slot of memory that was freed, unless somebody still has it.
  void Reclaim(uint64_t backing);

  CUresult TakeBackingSlot(uint64_t bytes, BackingKind kind, uint32_t* index);
  CUresult TakeImportSlot(uint32_t backing, uint32_t* index);
  CUresult FindExport(const Handle& handle, uint32_t* index) const;
  CUresult FindDescriptor(int descriptor, uint32_t* index) const;

  const UniqueFd folder_;
  const UniqueFd state_;  // "card-3"; carries the record lock
  const UniqueFd probe_;  // "nvidia-processes"; asks for others' locks and takes none
  CardLayout* const layout_;
  const int32_t pid_;
  const uint64_t start_time_;
  UniqueFd life_;  // "nvidia-processes"; carries this process's lock while it has entered
  uint32_t process_ = 0;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_CARD_H_
