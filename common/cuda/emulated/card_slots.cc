#include "common/cuda/emulated/card_slots.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "common/check.h"
#include "common/cuda/emulated/backing_file.h"
#include "common/cuda/emulated/shared_file.h"

namespace tenure::cuda::emulated {

void CardSlots::SetUp(uint64_t capacity) {
  const bool is_new = layout_.magic != kCardMagic;
  if (!is_new) Sweep();
  if (!is_new && !IsIdle()) return;
  layout_.capacity = capacity / kPage.value() * kPage.value();
  // The magic last: a card without it is set up again, so a process that is killed between the two
  // lines does no harm.
  layout_.magic = kCardMagic;
}

bool CardSlots::IsIdle() const {
  return layout_.backings_end == 0 &&
         std::all_of(layout_.processes.begin(), layout_.processes.end(),
                     [](const ProcessSlot& slot) { return slot.pid == 0; });
}

CUresult CardSlots::AddProcess(int32_t pid, uint64_t start_time) {
  if (!HasRoomFor(ContextCost())) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto slot = std::find_if(layout_.processes.begin(), layout_.processes.end(),
                                 [](const ProcessSlot& place) { return place.pid == 0; });
  if (slot == layout_.processes.end()) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto process = static_cast<uint32_t>(slot - layout_.processes.begin());
  // The life lock before the pid: with a pid and no lock the next sweep would take this process for
  // a dead one.
  if (!lives_.Take(process)) return SystemError("nvidia-processes");
  process_ = process;
  slot->start_time = start_time;
  slot->pid = pid;
  return CUDA_SUCCESS;
}

void CardSlots::RemoveProcess() {
  lives_.End(process_);
  // Without a life lock this process counts as dead, and the sweep frees what it had.
  Sweep();
}

void CardSlots::LeaveAtExit() {
  lives_.Drop();
  Sweep();
}

CUresult CardSlots::AddBacking(uint64_t bytes, BackingKind kind, uint32_t* index) {
  if (bytes > layout_.capacity || !HasRoomFor(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  // The lowest empty slot, so that the next allocation after a free becomes the same object: see
  // Handle.
  *index = 0;
  while (*index < layout_.backings_end && layout_.backings[*index].state != BackingState::kEmpty) {
    ++*index;
  }
  // Each slot in use stands for at least one page, and there are as many slots as pages.
  TENURE_CHECK(*index < layout_.backings.size());
  if (*index == layout_.backings_end) ++layout_.backings_end;
  BackingSlot& slot = layout_.backings[*index];
  slot.id = ++layout_.next_id;
  slot.size = bytes;
  slot.owner = process_;
  slot.kind = kind;
  slot.inode = 0;
  slot.state = BackingState::kLive;  // last, see invariant 1 of layout.h
  return CUDA_SUCCESS;
}

bool CardSlots::FreeBacking(uint32_t index) {
  layout_.backings[index].state = BackingState::kFreed;
  Sweep();
  return layout_.backings[index].state == BackingState::kEmpty;
}

CUresult CardSlots::AddImport(uint32_t backing, uint32_t* index) {
  for (*index = 0; *index < layout_.imports_end; ++*index) {
    if (layout_.imports[*index].importer == 0) break;
  }
  if (*index == layout_.imports.size()) return CUDA_ERROR_OUT_OF_MEMORY;
  if (*index == layout_.imports_end) ++layout_.imports_end;
  layout_.imports[*index].backing = backing;
  layout_.imports[*index].importer = process_ + 1;  // last, see invariant 1 of layout.h
  return CUDA_SUCCESS;
}

void CardSlots::RemoveImport(uint32_t index) {
  layout_.imports[index].importer = 0;
  // The memory may have been freed meanwhile, and this was its last import.
  Sweep();
}

// The real driver was seen to answer INVALID_HANDLE when the exporter is dead, and INVALID_VALUE
// when a living exporter has freed the memory.
CUresult CardSlots::FindExport(const Handle& handle, uint32_t* index) const {
  const auto process = std::find_if(
      layout_.processes.begin(), layout_.processes.end(), [&](const ProcessSlot& slot) {
        return handle.pid != 0 && slot.pid == handle.pid && slot.start_time == handle.start_time;
      });
  if (process == layout_.processes.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (handle.object >= layout_.backings_end) return CUDA_ERROR_INVALID_VALUE;
  const auto owner = static_cast<uint32_t>(process - layout_.processes.begin());
  const BackingSlot& slot = layout_.backings[handle.object];
  // Not compared with handle.id: like the real driver, an old handle opens what its exporter
  // allocated later in the same object, if the size is the same.
  const bool live = slot.kind == BackingKind::kAllocated && slot.state == BackingState::kLive &&
                    slot.owner == owner;
  const bool fits = slot.size == handle.backing_size && handle.size > 0 &&
                    handle.offset <= slot.size && handle.size <= slot.size - handle.offset;
  if (!live || !fits) return CUDA_ERROR_INVALID_VALUE;
  *index = handle.object;
  return CUDA_SUCCESS;
}

CUresult CardSlots::FindDescriptor(int descriptor, uint32_t* index) const {
  struct stat file = {};
  struct stat folder = {};
  const int flags = fcntl(descriptor, F_GETFL);
  // By the file that it has open, and only with the right to write. Other users can open the file
  // by its name, but for reading only, so the descriptor must have come from its owner.
  const bool usable = flags >= 0 && (flags & O_ACCMODE) == O_RDWR &&
                      fstat(descriptor, &file) == 0 && fstat(folder_, &folder) == 0;
  if (!usable || file.st_dev != folder.st_dev) return CUDA_ERROR_NOT_FOUND;
  for (*index = 0; *index < layout_.backings_end; ++*index) {
    const BackingSlot& slot = layout_.backings[*index];
    const bool named = slot.state != BackingState::kEmpty && slot.kind == BackingKind::kCreated &&
                       slot.inode == file.st_ino;
    if (named) return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

void CardSlots::Sweep() {
  // First the dead processes, whose memory becomes kFreed and whose imports go. Then the freed
  // memory, which may have been kept by such an import only. Then the ends, which skip empty slots.
  for (size_t i = 0; i < layout_.processes.size(); ++i) {
    const bool own = lives_.held() && i == process_;
    if (layout_.processes[i].pid != 0 && !own && !lives_.IsAlive(i)) RemoveDead(i);
  }
  for (uint64_t i = 0; i < layout_.backings_end; ++i) {
    if (layout_.backings[i].state == BackingState::kFreed) RemoveIfUnused(i);
  }
  while (layout_.backings_end > 0 &&
         layout_.backings[layout_.backings_end - 1].state == BackingState::kEmpty) {
    --layout_.backings_end;
  }
  while (layout_.imports_end > 0 && layout_.imports[layout_.imports_end - 1].importer == 0) {
    --layout_.imports_end;
  }
}

void CardSlots::RemoveDead(size_t process) {
  for (uint64_t i = 0; i < layout_.imports_end; ++i) {
    if (layout_.imports[i].importer == process + 1) layout_.imports[i].importer = 0;
  }
  for (uint64_t i = 0; i < layout_.backings_end; ++i) {
    BackingSlot& backing = layout_.backings[i];
    if (backing.state == BackingState::kLive && backing.owner == process) {
      backing.state = BackingState::kFreed;
    }
  }
  // The process's slot last: if this process is killed half-way, the next sweep does all of it
  // again.
  layout_.processes[process].pid = 0;
}

bool CardSlots::IsImported(uint64_t backing) const {
  for (uint64_t i = 0; i < layout_.imports_end; ++i) {
    const ImportSlot& slot = layout_.imports[i];
    if (slot.importer != 0 && slot.backing == backing) return true;
  }
  return false;
}

bool CardSlots::HasDescriptorOpen(uint64_t backing) const {
  const BackingSlot& slot = layout_.backings[backing];
  return slot.kind == BackingKind::kCreated && HasDescriptor(folder_, slot.id);
}

void CardSlots::RemoveIfUnused(uint64_t backing) {
  if (IsImported(backing) || HasDescriptorOpen(backing)) return;
  // The file before the slot: a slot that is still kFreed is tried again by the next sweep, but a
  // file without a slot would stay for ever.
  RemoveBackingFile(folder_, layout_.backings[backing].id);
  layout_.backings[backing].state = BackingState::kEmpty;
}

uint64_t CardSlots::Used() const {
  uint64_t used = 0;
  for (const ProcessSlot& process : layout_.processes) {
    if (process.pid != 0) used += ContextCost();
  }
  for (size_t slot = 0; slot < layout_.backings_end; ++slot) {
    const BackingSlot& backing = layout_.backings[slot];
    if (backing.state != BackingState::kEmpty) used += backing.size;
  }
  return used;
}

bool CardSlots::HasRoomFor(uint64_t bytes) {
  const auto fits = [&] { return bytes <= layout_.capacity - Used(); };
  if (fits()) return true;
  Sweep();
  return fits();
}

std::vector<CardProcess> CardSlots::Processes() const {
  std::vector<CardProcess> processes;
  for (size_t i = 0; i < layout_.processes.size(); ++i) {
    if (layout_.processes[i].pid == 0) continue;
    CardProcess process = {layout_.processes[i].pid, ContextCost()};
    for (size_t slot = 0; slot < layout_.backings_end; ++slot) {
      const BackingSlot& backing = layout_.backings[slot];
      const bool owned = backing.state == BackingState::kLive && backing.owner == i;
      if (owned) process.used += backing.size;
    }
    processes.push_back(process);
  }
  return processes;
}

}  // namespace tenure::cuda::emulated
