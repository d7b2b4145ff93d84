#include "common/cuda/emulated/card.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/memory/memory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "common/check.h"
#include "common/cuda/emulated/backing_file.h"

namespace tenure::cuda::emulated {
namespace {

// Field 22 of /proc/self/stat, counted from the last ')' because the name in field 2 may hold
// anything.
// Source: proc(5).
uint64_t OwnStartTime() {
  std::ifstream file("/proc/self/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(text).substr(name_end + 1), ' ', absl::SkipEmpty());
  uint64_t start_time = 0;
  return fields.size() > 19 && absl::SimpleAtoi(fields[19], &start_time) ? start_time : 0;
}

CUresult SystemError(const std::string& what) {
  std::fprintf(stderr, "emulated CUDA driver: %s: %s\n", what.c_str(), std::strerror(errno));
  return CUDA_ERROR_OPERATING_SYSTEM;
}

// Opened for every user, whatever the umask of the process that makes it.
UniqueFd OpenShared(int folder, const char* name) {
  UniqueFd file(openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  struct stat status = {};
  if (file && fstat(file.get(), &status) == 0 && (status.st_mode & 0777) != 0666) {
    // Only its maker may, and its maker does.
    static_cast<void>(fchmod(file.get(), 0666));
  }
  return file;
}

// Any open file description may ask for or take a lock on the byte of a process.
struct flock LifeLock(size_t process, short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(process);
  lock.l_len = 1;
  return lock;
}

}  // namespace

// The card's lock among processes. A record lock, not a flock: it belongs to the process, so a
// child that was forked while it was held does not keep it after the parent is killed.
class Card::Lock {
 public:
  explicit Lock(const Card& card) : file_(card.state_.get()) { Apply(F_WRLCK); }
  ~Lock() { Apply(F_UNLCK); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  void Apply(short type) const {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    while (fcntl(file_, F_SETLKW, &lock) != 0) TENURE_CHECK(errno == EINTR);
  }

  const int file_;
};

CUresult Card::Open(const std::string& folder, Bytes capacity, std::unique_ptr<Card>* card) {
  UniqueFd directory(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return SystemError(folder);
  UniqueFd state = OpenShared(directory.get(), "card-3");
  if (!state) return SystemError(folder + "/card-3");
  UniqueFd probe = OpenShared(directory.get(), "nvidia-processes");
  if (!probe) return SystemError(folder + "/nvidia-processes");
  // Sparse: only what is used takes room.
  if (ftruncate(state.get(), sizeof(CardLayout)) != 0) return SystemError(folder + "/card-3");
  void* layout =
      mmap(nullptr, sizeof(CardLayout), PROT_READ | PROT_WRITE, MAP_SHARED, state.get(), 0);
  if (layout == MAP_FAILED) return SystemError(folder + "/card-3");
  *card = absl::WrapUnique(new Card(std::move(directory), std::move(state), std::move(probe),
                                    static_cast<CardLayout*>(layout)));
  return (*card)->SetUp(capacity);
}

Card::Card(UniqueFd folder, UniqueFd state, UniqueFd probe, CardLayout* layout)
    : folder_(std::move(folder)),
      state_(std::move(state)),
      probe_(std::move(probe)),
      layout_(layout),
      pid_(getpid()),
      start_time_(OwnStartTime()) {}

CUresult Card::SetUp(Bytes capacity) {
  const Lock lock(*this);
  const bool is_new = layout_->magic != kCardMagic;
  if (!is_new) Sweep();
  if (is_new || IsIdle()) {
    layout_->capacity = capacity.value() / kPage.value() * kPage.value();
    layout_->magic = kCardMagic;
  }
  return CUDA_SUCCESS;
}

bool Card::IsIdle() const {
  return layout_->backings_end == 0 &&
         std::all_of(layout_->processes.begin(), layout_->processes.end(),
                     [](const ProcessSlot& slot) { return slot.pid == 0; });
}

uint64_t Card::Capacity() const {
  const Lock lock(*this);
  return layout_->capacity;
}

uint64_t Card::ContextCost() const { return layout_->capacity / kContextsPerCard; }

CUresult Card::Enter() {
  const Lock lock(*this);
  if (!HasRoomFor(ContextCost())) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto slot = std::find_if(layout_->processes.begin(), layout_->processes.end(),
                                 [](const ProcessSlot& place) { return place.pid == 0; });
  if (slot == layout_->processes.end()) return CUDA_ERROR_OUT_OF_MEMORY;
  const auto process = static_cast<uint32_t>(slot - layout_->processes.begin());
  UniqueFd file = OpenShared(folder_.get(), "nvidia-processes");
  struct flock life = LifeLock(process, F_WRLCK);
  if (!file || fcntl(file.get(), F_OFD_SETLK, &life) != 0) return SystemError("nvidia-processes");
  life_ = std::move(file);
  process_ = process;
  slot->start_time = start_time_;
  slot->pid = pid_;
  return CUDA_SUCCESS;
}

void Card::Leave() {
  const Lock lock(*this);
  // A forked child shares the description: closing alone would leave the lock with it.
  struct flock life = LifeLock(process_, F_UNLCK);
  fcntl(life_.get(), F_OFD_SETLK, &life);
  life_.Reset();
  Sweep();
}

void Card::LeaveAtExit() {
  const Lock lock(*this);
  life_.Reset();
  Sweep();
}

CUresult Card::Allocate(size_t bytes, Mapping* backing) {
  const Lock lock(*this);
  uint32_t slot = 0;
  const CUresult taken = TakeBackingSlot(bytes, BackingKind::kAllocated, &slot);
  if (taken != CUDA_SUCCESS) return taken;
  const uint64_t id = layout_->backings[slot].id;
  void* address = CreateBackingFile(folder_.get(), id, bytes);
  if (address == nullptr) {
    const CUresult result = SystemError("device memory");
    layout_->backings[slot].state = BackingState::kEmpty;
    return result;
  }
  *backing = Mapping{slot, 0, id, static_cast<char*>(address), bytes};
  return CUDA_SUCCESS;
}

bool Card::Free(const Mapping& backing) {
  const Lock lock(*this);
  layout_->backings[backing.slot].state = BackingState::kFreed;
  munmap(backing.address, backing.bytes);
  Sweep();
  return layout_->backings[backing.slot].state == BackingState::kEmpty;
}

CUresult Card::Import(const Handle& handle, Mapping* import) {
  const Lock lock(*this);
  Sweep();
  uint32_t backing = 0;
  const CUresult found = FindExport(handle, &backing);
  if (found != CUDA_SUCCESS) return found;
  uint32_t index = 0;
  const CUresult taken = TakeImportSlot(backing, &index);
  if (taken != CUDA_SUCCESS) return taken;
  const BackingSlot& slot = layout_->backings[backing];
  void* address = MapBackingFile(folder_.get(), slot.id, slot.size);
  if (address == nullptr) {
    layout_->imports[index].importer = 0;
    return SystemError("device memory");
  }
  *import = Mapping{backing, index, slot.id, static_cast<char*>(address), slot.size};
  return CUDA_SUCCESS;
}

void Card::EndImport(const Mapping& import) {
  const Lock lock(*this);
  munmap(import.address, import.bytes);
  layout_->imports[import.import].importer = 0;
  Sweep();
}

CUresult Card::Create(size_t bytes, Mapping* memory) {
  const Lock lock(*this);
  uint32_t slot = 0;
  const CUresult taken = TakeBackingSlot(bytes, BackingKind::kCreated, &slot);
  if (taken != CUDA_SUCCESS) return taken;
  BackingSlot& backing = layout_->backings[slot];
  void* address = CreateDescribedFile(folder_.get(), backing.id, bytes, &backing.inode);
  if (address == nullptr) {
    const CUresult result = SystemError("device memory");
    backing.state = BackingState::kEmpty;
    return result;
  }
  *memory = Mapping{slot, 0, backing.id, static_cast<char*>(address), bytes};
  return CUDA_SUCCESS;
}

CUresult Card::Export(const Mapping& created, UniqueFd* descriptor) {
  const Lock lock(*this);
  *descriptor = OpenDescriptor(folder_.get(), created.id);
  return *descriptor ? CUDA_SUCCESS : SystemError("a descriptor of device memory");
}

CUresult Card::Import(int descriptor, Mapping* import) {
  const Lock lock(*this);
  uint32_t backing = 0;
  const CUresult found = FindDescriptor(descriptor, &backing);
  if (found != CUDA_SUCCESS) return found;
  uint32_t index = 0;
  const CUresult taken = TakeImportSlot(backing, &index);
  if (taken != CUDA_SUCCESS) return taken;
  const BackingSlot& slot = layout_->backings[backing];
  void* address = MapDescriptor(descriptor, slot.size);
  if (address == nullptr) {
    layout_->imports[index].importer = 0;
    return SystemError("device memory");
  }
  *import = Mapping{backing, index, slot.id, static_cast<char*>(address), slot.size};
  return CUDA_SUCCESS;
}

uint64_t Card::Used() {
  const Lock lock(*this);
  Sweep();
  return Sum();
}

std::vector<CardProcess> Card::Processes() {
  const Lock lock(*this);
  Sweep();
  std::vector<CardProcess> processes;
  for (size_t i = 0; i < layout_->processes.size(); ++i) {
    if (layout_->processes[i].pid == 0) continue;
    CardProcess process = {layout_->processes[i].pid, ContextCost()};
    for (size_t slot = 0; slot < layout_->backings_end; ++slot) {
      const BackingSlot& backing = layout_->backings[slot];
      const bool owned = backing.state == BackingState::kLive && backing.owner == i;
      if (owned) process.used += backing.size;
    }
    processes.push_back(process);
  }
  return processes;
}

uint64_t Card::Sum() const {
  uint64_t used = 0;
  for (const ProcessSlot& process : layout_->processes) {
    if (process.pid != 0) used += ContextCost();
  }
  for (size_t slot = 0; slot < layout_->backings_end; ++slot) {
    const BackingSlot& backing = layout_->backings[slot];
    if (backing.state != BackingState::kEmpty) used += backing.size;
  }
  return used;
}

bool Card::HasRoomFor(uint64_t bytes) {
  const auto fits = [&] { return bytes <= layout_->capacity - Sum(); };
  if (fits()) return true;
  Sweep();
  return fits();
}

void Card::Sweep() {
  for (size_t i = 0; i < layout_->processes.size(); ++i) {
    const bool own = life_ && i == process_;
    if (layout_->processes[i].pid != 0 && !own && !IsAlive(i)) Bury(i);
  }
  for (uint64_t i = 0; i < layout_->backings_end; ++i) {
    if (layout_->backings[i].state == BackingState::kFreed) Reclaim(i);
  }
  while (layout_->backings_end > 0 &&
         layout_->backings[layout_->backings_end - 1].state == BackingState::kEmpty) {
    --layout_->backings_end;
  }
  while (layout_->imports_end > 0 && layout_->imports[layout_->imports_end - 1].importer == 0) {
    --layout_->imports_end;
  }
}

bool Card::IsAlive(size_t process) const {
  struct flock life = LifeLock(process, F_WRLCK);
  TENURE_CHECK(fcntl(probe_.get(), F_OFD_GETLK, &life) == 0);
  return life.l_type != F_UNLCK;
}

// The slot is emptied last: a sweep that is killed half-way is done again by the next one.
void Card::Bury(size_t process) {
  for (uint64_t i = 0; i < layout_->imports_end; ++i) {
    if (layout_->imports[i].importer == process + 1) layout_->imports[i].importer = 0;
  }
  for (uint64_t i = 0; i < layout_->backings_end; ++i) {
    BackingSlot& backing = layout_->backings[i];
    if (backing.state == BackingState::kLive && backing.owner == process) {
      backing.state = BackingState::kFreed;
    }
  }
  layout_->processes[process].pid = 0;
}

bool Card::IsImported(uint64_t backing) const {
  for (uint64_t i = 0; i < layout_->imports_end; ++i) {
    const ImportSlot& slot = layout_->imports[i];
    if (slot.importer != 0 && slot.backing == backing) return true;
  }
  return false;
}

bool Card::IsHeld(uint64_t backing) const {
  const BackingSlot& slot = layout_->backings[backing];
  return slot.kind == BackingKind::kCreated && HasDescriptor(folder_.get(), slot.id);
}

void Card::Reclaim(uint64_t backing) {
  if (IsImported(backing) || IsHeld(backing)) return;
  RemoveBackingFile(folder_.get(), layout_->backings[backing].id);
  layout_->backings[backing].state = BackingState::kEmpty;
}

// The lowest empty slot, so that the next allocation after a free becomes the same object.
CUresult Card::TakeBackingSlot(uint64_t bytes, BackingKind kind, uint32_t* index) {
  if (bytes > layout_->capacity || !HasRoomFor(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  *index = 0;
  while (*index < layout_->backings_end &&
         layout_->backings[*index].state != BackingState::kEmpty) {
    ++*index;
  }
  // Each slot that is taken stands for a page at least, and there are as many slots as pages.
  TENURE_CHECK(*index < layout_->backings.size());
  if (*index == layout_->backings_end) ++layout_->backings_end;
  BackingSlot& slot = layout_->backings[*index];
  slot.id = ++layout_->next_id;
  slot.size = bytes;
  slot.owner = process_;
  slot.kind = kind;
  slot.inode = 0;
  slot.state = BackingState::kLive;
  return CUDA_SUCCESS;
}

CUresult Card::TakeImportSlot(uint32_t backing, uint32_t* index) {
  for (*index = 0; *index < layout_->imports_end; ++*index) {
    if (layout_->imports[*index].importer == 0) break;
  }
  if (*index == layout_->imports.size()) return CUDA_ERROR_OUT_OF_MEMORY;
  if (*index == layout_->imports_end) ++layout_->imports_end;
  layout_->imports[*index].backing = backing;
  layout_->imports[*index].importer = process_ + 1;
  return CUDA_SUCCESS;
}

// What the driver was seen to answer: INVALID_HANDLE for a dead exporter, INVALID_VALUE for memory
// that a living one has freed.
CUresult Card::FindExport(const Handle& handle, uint32_t* index) const {
  const auto process = std::find_if(
      layout_->processes.begin(), layout_->processes.end(), [&](const ProcessSlot& slot) {
        return handle.pid != 0 && slot.pid == handle.pid && slot.start_time == handle.start_time;
      });
  if (process == layout_->processes.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (handle.object >= layout_->backings_end) return CUDA_ERROR_INVALID_VALUE;
  const auto owner = static_cast<uint32_t>(process - layout_->processes.begin());
  const BackingSlot& slot = layout_->backings[handle.object];
  const bool live = slot.kind == BackingKind::kAllocated && slot.state == BackingState::kLive &&
                    slot.owner == owner;
  const bool fits = slot.size == handle.backing_size && handle.size > 0 &&
                    handle.offset <= slot.size && handle.size <= slot.size - handle.offset;
  if (!live || !fits) return CUDA_ERROR_INVALID_VALUE;
  *index = handle.object;
  return CUDA_SUCCESS;
}

// By the file behind it, and only with the right to write, which other users do not get by the
// file's name.
CUresult Card::FindDescriptor(int descriptor, uint32_t* index) const {
  struct stat file = {};
  struct stat folder = {};
  const int flags = fcntl(descriptor, F_GETFL);
  const bool usable = flags >= 0 && (flags & O_ACCMODE) == O_RDWR &&
                      fstat(descriptor, &file) == 0 && fstat(folder_.get(), &folder) == 0;
  if (!usable || file.st_dev != folder.st_dev) return CUDA_ERROR_NOT_FOUND;
  for (*index = 0; *index < layout_->backings_end; ++*index) {
    const BackingSlot& slot = layout_->backings[*index];
    const bool named = slot.state != BackingState::kEmpty && slot.kind == BackingKind::kCreated &&
                       slot.inode == file.st_ino;
    if (named) return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

}  // namespace tenure::cuda::emulated
