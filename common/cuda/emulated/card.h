// One emulated device, as all processes that name the same folder share it.
#ifndef COMMON_CUDA_EMULATED_CARD_H_
#define COMMON_CUDA_EMULATED_CARD_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include <cuda.h>

#include "common/bytes.h"
#include "common/cuda/emulated/card_slots.h"
#include "common/cuda/emulated/handle.h"
#include "common/cuda/emulated/layout.h"
#include "common/unique_fd.h"

namespace tenure::cuda::emulated {

// A piece of device memory that is mapped in this process: its own, or imported. Memory of
// cuMemCreate is mapped here without access; its other mappings are copies of this one.
struct Mapping {
  uint32_t slot = 0;    // of the backing
  uint32_t import = 0;  // of the import
  uint64_t id = 0;
  char* address = nullptr;
  size_t bytes = 0;
};

// One emulated device: its memory, the owner of each part of it, and the processes with a context.
// Card maps the files; CardSlots keeps the records.
//
// A process that is killed at any instruction leaves a card that the next call of any other process
// repairs; see layout.h and CardSlots.
//
// Owns: the mapping of the shared state, and this process's place in it.
// Thread safety: thread-compatible. Between processes each call is one step, taken under a record
// lock.
// Errors: the CUresult that the driver's caller gets. CUDA_ERROR_OPERATING_SYSTEM: the folder
// cannot be used; the reason was printed to stderr.
class Card {
 public:
  // Opens the card in `folder`, or makes it. `capacity` applies to a card that is new or that no
  // process uses; another card keeps its capacity.
  static CUresult Open(const std::string& folder, Bytes capacity, std::unique_ptr<Card>* card);

  uint64_t Capacity() const;

  // Makes this process one of those with a context, which costs memory.
  CUresult Enter();
  // Ends the context, and frees the process's memory and imports. Their mappings stay.
  void Leave();
  // The same at exit(): a forked child that lives on keeps everything, as after SIGKILL.
  void LeaveAtExit();

  // Device memory of `bytes`, a multiple of kPage.
  CUresult Allocate(size_t bytes, Mapping* backing);
  // Frees and unmaps it. False: another process has it too, so it stays in use.
  bool Free(const Mapping& backing);

  // Maps what another process exported.
  CUresult Import(const Handle& handle, Mapping* import);
  void EndImport(const Mapping& import);

  // Memory that descriptors name, of `bytes`, a multiple of kPage. Free() ends the creator's use.
  CUresult Create(size_t bytes, Mapping* memory);
  // The memory lives on while the descriptor does, or a copy of it.
  CUresult Export(const Mapping& created, UniqueFd* descriptor);
  // CUDA_ERROR_NOT_FOUND: the descriptor names no memory of this card.
  CUresult Import(int descriptor, Mapping* import);

  // Memory in use, over all processes and exact at this moment.
  uint64_t Used();
  std::vector<CardProcess> Processes();

  // The name of this process in handles.
  int32_t pid() const { return pid_; }
  uint64_t start_time() const { return start_time_; }

 private:
  class Lock;

  Card(UniqueFd folder, UniqueFd state, UniqueFd probe, CardLayout* layout);

  // Records an import of `backing` and maps it by `map`, which returns null when it cannot.
  // REQUIRES: the card's lock is held.
  CUresult AddImport(uint32_t backing, absl::FunctionRef<void*(const BackingSlot&)> map,
                     Mapping* import);

  const UniqueFd folder_;
  const UniqueFd state_;  // "card-3"; carries the record lock
  CardLayout* const layout_;
  const int32_t pid_;
  const uint64_t start_time_;
  CardSlots slots_;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_CARD_H_
