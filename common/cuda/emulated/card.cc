#include "common/cuda/emulated/card.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "common/check.h"
#include "common/cuda/emulated/backing_file.h"
#include "common/cuda/emulated/shared_file.h"

namespace tenure::cuda::emulated {
namespace {

// Field 22 of /proc/self/stat, counted from the last ')', because the name in field 2 may contain
// spaces and parentheses.
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

}  // namespace

// The card's lock among processes. It is a record lock, and neither flock(2) nor an open file
// description lock: these would pass to a child that was forked while the lock was held, and stay
// locked after the parent was killed. A record lock belongs to the process and ends with it.
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
  // The file is sparse: only slots that were written take memory.
  if (ftruncate(state.get(), sizeof(CardLayout)) != 0) return SystemError(folder + "/card-3");
  void* layout =
      mmap(nullptr, sizeof(CardLayout), PROT_READ | PROT_WRITE, MAP_SHARED, state.get(), 0);
  if (layout == MAP_FAILED) return SystemError(folder + "/card-3");
  *card = absl::WrapUnique(new Card(std::move(directory), std::move(state), std::move(probe),
                                    static_cast<CardLayout*>(layout)));
  const Lock lock(**card);
  (*card)->slots_.SetUp(capacity.value());
  return CUDA_SUCCESS;
}

Card::Card(UniqueFd folder, UniqueFd state, UniqueFd probe, CardLayout* layout)
    : folder_(std::move(folder)),
      state_(std::move(state)),
      layout_(layout),
      pid_(getpid()),
      start_time_(OwnStartTime()),
      slots_(*layout, folder_.get(), std::move(probe)) {}

uint64_t Card::Capacity() const {
  const Lock lock(*this);
  return layout_->capacity;
}

CUresult Card::Enter() {
  const Lock lock(*this);
  return slots_.AddProcess(pid_, start_time_);
}

void Card::Leave() {
  const Lock lock(*this);
  slots_.RemoveProcess();
}

void Card::LeaveAtExit() {
  const Lock lock(*this);
  slots_.LeaveAtExit();
}

CUresult Card::Allocate(size_t bytes, Mapping* backing) {
  const Lock lock(*this);
  // The slot before the file: memory without a slot would be memory that no sweep finds.
  uint32_t slot = 0;
  const CUresult taken = slots_.AddBacking(bytes, BackingKind::kAllocated, &slot);
  if (taken != CUDA_SUCCESS) return taken;
  const uint64_t id = slots_.backing(slot).id;
  void* address = CreateBackingFile(folder_.get(), id, bytes);
  if (address == nullptr) {
    const CUresult result = SystemError("device memory");
    slots_.backing(slot).state = BackingState::kEmpty;
    return result;
  }
  *backing = Mapping{slot, 0, id, static_cast<char*>(address), bytes};
  return CUDA_SUCCESS;
}

bool Card::Free(const Mapping& backing) {
  const Lock lock(*this);
  munmap(backing.address, backing.bytes);
  return slots_.FreeBacking(backing.slot);
}

CUresult Card::Import(const Handle& handle, Mapping* import) {
  const Lock lock(*this);
  // The handle of an exporter that has just died must be refused.
  slots_.Sweep();
  uint32_t backing = 0;
  const CUresult found = slots_.FindExport(handle, &backing);
  if (found != CUDA_SUCCESS) return found;
  return AddImport(
      backing,
      [this](const BackingSlot& slot) { return MapBackingFile(folder_.get(), slot.id, slot.size); },
      import);
}

CUresult Card::AddImport(uint32_t backing, absl::FunctionRef<void*(const BackingSlot&)> map,
                         Mapping* import) {
  // The slot is taken before the memory is mapped. It keeps the memory if its owner frees it or
  // dies in between.
  uint32_t index = 0;
  const CUresult taken = slots_.AddImport(backing, &index);
  if (taken != CUDA_SUCCESS) return taken;
  const BackingSlot& slot = slots_.backing(backing);
  void* address = map(slot);
  if (address == nullptr) {
    const CUresult result = SystemError("device memory");
    slots_.RemoveImport(index);
    return result;
  }
  *import = Mapping{backing, index, slot.id, static_cast<char*>(address), slot.size};
  return CUDA_SUCCESS;
}

void Card::EndImport(const Mapping& import) {
  const Lock lock(*this);
  // Unmapped before the slot is emptied: the mapping of a descriptor counts as a copy of it and
  // would keep the memory through the sweep.
  munmap(import.address, import.bytes);
  slots_.RemoveImport(import.import);
}

CUresult Card::Create(size_t bytes, Mapping* memory) {
  const Lock lock(*this);
  uint32_t slot = 0;
  const CUresult taken = slots_.AddBacking(bytes, BackingKind::kCreated, &slot);
  if (taken != CUDA_SUCCESS) return taken;
  BackingSlot& backing = slots_.backing(slot);
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
  const CUresult found = slots_.FindDescriptor(descriptor, &backing);
  if (found != CUDA_SUCCESS) return found;
  return AddImport(
      backing,
      [descriptor](const BackingSlot& slot) { return MapDescriptor(descriptor, slot.size); },
      import);
}

uint64_t Card::Used() {
  const Lock lock(*this);
  slots_.Sweep();
  return slots_.Used();
}

std::vector<CardProcess> Card::Processes() {
  const Lock lock(*this);
  slots_.Sweep();
  return slots_.Processes();
}

}  // namespace tenure::cuda::emulated
